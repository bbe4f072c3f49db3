"""What this system must have: Linux, a /proc of this process's own, pidfds, memfds or a folder in their place."""

from __future__ import annotations

import os
import sys

from warmfork._words.errors import UnsupportedPlatform

_checked = False


def check_interpreter() -> None:
    """Raise UnsupportedPlatform on another system than Linux, and in a free-threaded interpreter. It asks nothing of the
    kernel."""
    if sys.platform != "linux":
        raise UnsupportedPlatform(f"warmfork runs on Linux, and this is {sys.platform}")
    # A free-threaded build lays its objects out in another way, also with PYTHON_GIL=1.
    if "t" in sys.abiflags or not getattr(sys, "_is_gil_enabled", lambda: True)():
        raise UnsupportedPlatform("warmfork does not support the free-threaded build of Python")


def check() -> None:
    """Raise UnsupportedPlatform, with what is missing, where warmfork can't start anything; OSError where that can't be
    told."""
    global _checked
    if _checked:
        return
    check_interpreter()
    from warmfork._machine import memfds  # it imports what only Linux has

    check_proc()
    check_pidfds()
    try:
        os.close(memfds.make_memory("warmfork-probe"))
    except OSError as error:
        raise_if_passing(error)
        raise UnsupportedPlatform(
            f"this kernel gives no memfds, and no folder takes a file in their place: {error}"
        ) from error
    if memfds.no_memfds:
        from logging import getLogger

        getLogger("warmfork").info("this kernel, or a filter, gives no memfds: files without names are used instead")
    _checked = True


MOUNT = "mount -t proc proc /proc"
NEEDED = ("fd", "fdinfo", "task", "stat")
"""What is read of /proc/self."""


def check_proc() -> None:
    """Raise UnsupportedPlatform where /proc is not mounted, is another pid namespace's, or lacks what is needed."""
    from posix import getpid, readlink, stat

    try:
        shown = readlink("/proc/self")
    except OSError as error:
        raise_if_passing(error)
        shown = ""
    if shown != str(getpid()):
        try:
            stat("/proc/sys")
        except OSError:
            raise UnsupportedPlatform(f"no /proc is mounted (warmfork needs it): {MOUNT}") from None
        raise UnsupportedPlatform(
            f"the /proc that is mounted is another pid namespace's, in which this process is {shown or 'not to be seen'} "
            f"and not {getpid()} (warmfork needs one of its own): {MOUNT}"
        )
    for name in NEEDED:
        try:
            stat(f"/proc/self/{name}")
        except OSError as error:
            raise_if_passing(error)
            raise UnsupportedPlatform(f"/proc has no self/{name} here, which warmfork needs: {error}") from error


def check_pidfds() -> None:
    """Raise UnsupportedPlatform where there are no pidfds."""
    from posix import getpid

    from warmfork._machine import syscalls

    try:
        os.close(syscalls.open_pidfd(getpid()))
    except (ImportError, OSError) as error:
        raise_if_passing(error)
        # EPERM from an old container runtime's filter means the same as ENOSYS.
        raise UnsupportedPlatform(
            f"this kernel, or a filter of system calls, gives no pidfds (Linux 5.3 has them): {error}"
        ) from error


def raise_if_passing(error: Exception) -> None:
    """Raise this error if it says nothing of the kernel, but that there are too many files or too little memory now."""
    if isinstance(error, OSError) and error.errno in (EMFILE, ENFILE, ENOMEM):
        raise error


EMFILE, ENFILE, ENOMEM = 24, 23, 12
