"""System calls that a Python may have been built without, because its C library was older than they are (glibc 2.17, for
which python-build-standalone, conda and manylinux build) or does not wrap them (musl). The kernel has them all the same:
such a build makes them by number.
"""

from __future__ import annotations

import _signal
import os
from sys import maxsize

from warmfork._machine import calls

PIDFD_SEND_SIGNAL, PIDFD_OPEN, CLOSE_RANGE = 424, 434, 436
"""asm-generic/unistd.h: since 2019 a new call has one number on all architectures that CPython supports."""

MEMFD_CREATE = {
    "x86_64": 319,
    "i386": 356,
    "i686": 356,
    "aarch64": 279,
    "riscv64": 279,
    "loongarch64": 279,
    "armv6l": 385,
    "armv7l": 385,
    "ppc64le": 360,
    "s390x": 350,
}
"""An older call: by machine, as uname(2) names it (arch/*/entry/syscalls of the kernel)."""

NARROW = {"x86_64": "i386", "aarch64": "armv7l"}
"""What a 32-bit program is on these machines, whose kernels say the name of the wide one."""

MFD_CLOEXEC, MFD_ALLOW_SEALING = 1, 2  # linux/memfd.h
ENOSYS = 38


def invoke(number: int, *arguments: int | bytes | None) -> int:
    """Make a system call. Raises OSError, with its errno."""
    return calls.call_or_raise("syscall", number, *arguments)


def open_pidfd(pid: int) -> int:
    """Call pidfd_open(2), Linux 5.3. Raises OSError."""
    if hasattr(os, "pidfd_open"):
        return os.pidfd_open(pid)
    return invoke(PIDFD_OPEN, pid, 0)


def send_pidfd_signal(pidfd: int, number: int) -> None:
    """Call pidfd_send_signal(2), Linux 5.1. Raises OSError."""
    if hasattr(_signal, "pidfd_send_signal"):
        _signal.pidfd_send_signal(pidfd, number)
    else:
        invoke(PIDFD_SEND_SIGNAL, pidfd, number, None, 0)


def create_memfd(name: str, sealable: bool) -> int:
    """Call memfd_create(2), Linux 3.17. Raises OSError."""
    flags = MFD_CLOEXEC | (MFD_ALLOW_SEALING if sealable else 0)
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name, flags)
    machine = os.uname().machine
    number = MEMFD_CREATE.get(machine if maxsize > 2**32 else NARROW.get(machine, machine))
    if number is None:
        raise OSError(ENOSYS, f"the number of the system call memfd_create is not known for {machine}")
    return invoke(number, os.fsencode(name), flags)


def close_range(first: int, last: int) -> bool:
    """Call close_range(2), Linux 5.9. False: the kernel, or a filter, has refused, or this Python has no _ctypes.

    Always by number: os.closerange() does not tell whether it has this call behind it, or closes 2**30 numbers one by one,
    which takes minutes."""
    try:
        calls.call("syscall", CLOSE_RANGE, first, last, 0)
    except (OSError, ImportError):
        return False
    return True


def get_scheduler() -> tuple[int, int]:
    """Give this process's scheduling policy, and its priority there. musl refuses to say: the ordinary one then."""
    try:
        policy = os.sched_getscheduler(0)
        return policy, os.sched_getparam(0).sched_priority if policy else 0
    except OSError:
        return 0, 0
