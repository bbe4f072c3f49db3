"""What this system must have: Linux, pidfds, memfds."""

from __future__ import annotations

import os
import sys

from warmfork._words.errors import UnsupportedPlatform

_checked = False


def check() -> None:
    """Raise UnsupportedPlatform, with what is missing, where warmfork can't work; OSError where that can't be told."""
    global _checked
    if _checked:
        return
    if sys.platform != "linux":
        raise UnsupportedPlatform(f"warmfork runs on Linux, and this is {sys.platform}")
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        raise UnsupportedPlatform("warmfork is not tried on a free-threaded interpreter, and does not pretend to work")
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError) as error:
        raise_if_passing(error)
        # EPERM from an old container runtime's filter means the same as ENOSYS (M24).
        raise UnsupportedPlatform(f"this kernel gives no pidfds (5.3 has them): {error}") from error
    from warmfork._machine import memfds  # it imports what only Linux has

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


def raise_if_passing(error: Exception) -> None:
    """Raise this error if it says nothing of the kernel, but that there are too many files or too little memory now."""
    if isinstance(error, OSError) and error.errno in (EMFILE, ENFILE, ENOMEM):
        raise error


EMFILE, ENFILE, ENOMEM = 24, 23, 12
