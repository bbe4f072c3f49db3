"""Filters of system calls (seccomp), as container runtimes set them: a call is refused with EPERM, here and in all that
this process starts. Programs import refuse()."""

from __future__ import annotations

import platform
import struct

from warmfork._machine import calls

NUMBERS = {
    "x86_64": {"memfd_create": 319, "process_vm_writev": 311, "madvise": 28, "close_range": 436},
    "aarch64": {"memfd_create": 279, "process_vm_writev": 271, "madvise": 233, "close_range": 436},
}
"""asm/unistd_64.h, asm-generic/unistd.h."""

LOAD, IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050001  # SECCOMP_RET_ERRNO | EPERM
NO_NEW_PRIVILEGES, SECCOMP, MODE_FILTER = 38, 22, 2


def can_refuse() -> bool:
    return platform.machine() in NUMBERS


def refuse(*names: str) -> None:
    """Have these calls refused from here on. It can't be undone."""
    numbers = [NUMBERS[platform.machine()][name] for name in names]
    steps = [(LOAD, 0, 0, 0)]
    steps += [(IF_EQUAL, len(numbers) - place, 0, number) for place, number in enumerate(numbers)]
    steps += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, REFUSE)]
    code = b"".join(struct.pack("HBBI", *step) for step in steps)
    program = struct.pack("HP", len(steps), calls.get_address(code))
    calls.call("prctl", NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    calls.call("prctl", SECCOMP, MODE_FILTER, program)
