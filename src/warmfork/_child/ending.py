"""The end of a child: exit handlers, flushed streams, and out without touching every object of the template."""

from __future__ import annotations

import _signal
import os
import sys

from warmfork._machine import calls, fds, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn


def run_exit_handlers() -> None:
    """Join the child's threads and run its exit handlers, as an interpreter does at its end."""
    import atexit

    threading = sys.modules.get("threading")
    if threading is not None:
        threading._shutdown()
    atexit._run_exitfuncs()


def flush() -> None:
    """Flush stdout and stderr. A stream that can't be flushed is the user's business, and has told already."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            # Closed, replaced by something without flush(), or its reader is gone: nobody is left to tell.
            continue


STACK = 16_384
WAITER_RECHECK = 1000
"""Microseconds that the helper sleeps: until the child's death was told."""
VM, FS, FILES, PARENT = 0x100, 0x200, 0x400, 0x8000
GPU_MODULES = ("torch", "cupy", "jax", "jaxlib", "tensorflow", "numba.cuda", "pycuda")

_stack = b""
_make_helper: Callable[[], int] | None = None


def prepare_helper() -> None:
    """Make what `leave` needs, once, in the template."""
    global _stack, _make_helper
    try:
        _stack = bytes(STACK)
        top = (id(_stack) + bytes.__basicsize__ - 1 + STACK) & ~0xF
        nap = calls.make_pointer(calls.find("usleep"))
        flags = VM | FS | FILES | PARENT
        _make_helper = calls.prepare("clone", nap, calls.make_pointer(top), flags, calls.make_pointer(WAITER_RECHECK))
    except (ImportError, AttributeError, OSError):
        _make_helper = None  # no _ctypes, or a libc without clone: children leave plainly


def forget_helper() -> None:
    """Do without: the system does not let one be made (a filter that refuses clone with these flags)."""
    global _make_helper
    _make_helper = None


def try_helper() -> bool | None:
    """Make one, which ends by itself, and tell whether that is possible. None: there is none to be made."""
    return _make_helper() > 0 if _make_helper is not None else None


def leave(code: int) -> NoReturn:
    """End this process, and have its death known before its memory is torn down.

    The kernel reports a death after it has freed the memory, if nobody else uses that: 0.3 ms for a bare child, 12 ms
    for one of a 500 MB template. So a helper is made first, which shares the memory and sleeps a millisecond in libc:
    the kernel then reports our death at once, and the helper frees the memory afterwards. It is the template's child
    (CLONE_PARENT), which reaps it. All fds are closed before, for the helper shares them; locks on files, pipes and
    ports are free when the death is known. What only a mapping holds is free a millisecond later: so not with GPUs.

    Finalisation, which an interpreter does at its end, would write to every object, and so copy the template's memory
    page by page: 72 to 103 ms on 200,000 objects.
    """
    if _make_helper is not None and not has_gpu():
        _signal.pthread_sigmask(_signal.SIG_SETMASK, signals.ALL)
        if _make_helper() > 0:
            os.closerange(0, fds.HIGHEST)
    os._exit(code)


def has_gpu() -> bool:
    """Has this process a GPU open? Asked only where a library is loaded that could have opened one."""
    # Not by isdisjoint(): that goes through all of sys.modules, and copies the page of each name: 1.1 ms with sklearn.
    modules = sys.modules
    for name in GPU_MODULES:
        if name in modules:
            return bool(fds.list_gpus())
    return False


def read_code(argument: object) -> int:
    """Give the exit code for what SystemExit carries, printing it where it is a message (sys.exit's rules)."""
    if argument is None:
        return 0
    if isinstance(argument, int):
        return argument & 0xFF
    sys.stderr.write(f"{argument}\n")
    return 1


NO_STDIN = 'hint: this process has no stdin; give it one: input="..." or stdin=... of run(), stdin=PIPE of start()'


def wanted_stdin(error: BaseException) -> bool:
    """Did this end somebody who has read to the end of stdin: input(), or a debugger, which from 3.14 on exits then?"""
    if type(error).__name__ in ("EOFError", "BdbQuit"):
        return True
    traceback = error.__traceback__ if isinstance(error, SystemExit) else None
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is not None and traceback.tb_frame.f_globals.get("__name__") == "pdb"
