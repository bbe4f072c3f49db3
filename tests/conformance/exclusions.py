"""The tests of CPython that warmfork does not pass, each with the reason: all of them, and nothing else.

A listed test that passes is an error as well, and so is one that does not exist: the list stays true.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

_PROCESSES = "test.test_multiprocessing_forkserver.test_processes.WithProcessesTestProcess."


@dataclass(frozen=True)
class Exclusion:
    """One test that is private to the stdlib's engine."""

    test: str
    versions: Collection[str]
    reason: str


EXCLUSIONS = (
    Exclusion(
        _PROCESSES + "test_forkserver_auth_is_enabled",
        ("3.14", "3.15"),
        "logs in to the server's listening socket with the private ForkServer._forkserver_authkey; "
        "warmfork has no listening socket that anyone could log in to",
    ),
    Exclusion(
        _PROCESSES + "test_forkserver_without_auth_fails",
        ("3.14", "3.15"),
        "replaces the private ForkServer._forkserver_authkey and wants the next start to fail; "
        "warmfork has no such key: its channel is inherited, not found by address",
    ),
)


def list_exclusions(version: str, engine: str) -> dict[str, str]:
    """Give the excluded tests of that Python version and why; the stdlib's engine has to pass them all."""
    if engine == "stdlib":
        return {}
    return {entry.test: entry.reason for entry in EXCLUSIONS if version in entry.versions}
