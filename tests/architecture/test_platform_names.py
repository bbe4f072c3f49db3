"""What a Python, or the system under it, may be without is asked for in one place, which knows what to do then."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src" / "warmfork"

SCARCE = {
    "pidfd_open", "pidfd_send_signal", "P_PIDFD", "memfd_create", "MFD_CLOEXEC", "MFD_ALLOW_SEALING", "MFD_HUGETLB",
    "F_ADD_SEALS", "F_GET_SEALS", "F_SEAL_SEAL", "F_SEAL_GROW", "F_SEAL_SHRINK", "F_SEAL_WRITE", "setns", "unshare",
    # looped over 2**30 numbers where the C library has neither close_range() nor closefrom()
    "closerange",
    # not in musl
    "sched_getscheduler", "sched_getparam",
    # not in a bare chroot
    "devnull", "/dev/null",
    # which numbers are signals is the C library's affair
    "NSIG", "valid_signals",
}  # fmt: skip


def list_scarce(text: str) -> list[str]:
    """List the scarce names that this code uses: attributes, imports, and the strings of getattr()."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute):
            found.append(node.attr)
        elif isinstance(node, ast.ImportFrom):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
    return [name for name in found if name in SCARCE]


KNOW_WHAT_TO_DO = ("_machine/syscalls.py", "_machine/signals.py", "_machine/fds.py")
"""Files of the machine that ask, and go on without. `signals` has valid_signals(), which all C libraries have, and `fds`
closes one number at a time."""


def test_only_these_files_of_the_machine_ask_for_what_a_build_may_lack():
    found = {
        str(path.relative_to(SRC)): names
        for path in sorted(SRC.rglob("*.py"))
        if str(path.relative_to(SRC)) not in KNOW_WHAT_TO_DO and (names := list_scarce(path.read_text()))
    }
    # A step of a start that failed is named after the call behind it.
    assert found == {"_template/children.py": ["pidfd_open"], "_words/errors.py": ["pidfd_open"]}


@pytest.mark.parametrize(
    "text",
    [
        "import os\nos.pidfd_open(1)",
        "from fcntl import F_ADD_SEALS",
        "getattr(os, 'closerange')",
        "open('/dev/null')",
        "import _signal\n_signal.pidfd_send_signal(1, 9)",
    ],
)
def test_the_rule_sees(text: str):
    assert list_scarce(text)
