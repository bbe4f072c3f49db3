"""The end of a child: exit handlers, flushed streams, and out without touching every object of the template."""

from __future__ import annotations

import _signal
import atexit
import os
import sys
from mmap import PAGESIZE

from warmfork._child import stdio
from warmfork._machine import calls, fds, memory, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn


def run_exit_handlers() -> None:
    """Join the child's threads and run its exit handlers, as an interpreter does at its end."""
    threading = sys.modules.get("threading")
    try:
        if threading is not None:
            threading._shutdown()
    finally:
        atexit._run_exitfuncs()


def forget_exit_handlers() -> None:
    """What the template registered at exit is the template's: a child that ran it would delete its temporary files. What
    multiprocessing has to do at the end of a process stays to be done."""
    atexit._clear()
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        atexit.register(util._exit_function)


UNFED = 1
"""The exit code of a child that was given a part of what it was to do: never 0, for nothing of the user's has run."""

STACK = 16_384
WAITER_RECHECK = 1000
"""Microseconds that the helper sleeps: until the child's death was told."""
VM, FS, FILES, PARENT = 0x100, 0x200, 0x400, 0x8000
GPU_MODULES = ("torch", "cupy", "jax", "jaxlib", "tensorflow", "numba.cuda", "pycuda")

_stack = b""
_make_helper: Callable[[], int] | None = None

_home: tuple[object, ...] = ()
_group = 0
_mapped_kib = 0
_files: frozenset[bytes] = frozenset()


def prepare_helper() -> None:
    """Make what `leave` needs, in the template."""
    global _stack, _make_helper
    try:
        _stack = bytes(STACK)
        top = (id(_stack) + bytes.__basicsize__ - 1 + STACK) & ~0xF
        nap = calls.make_pointer(calls.find("usleep"))
        flags = VM | FS | FILES | PARENT
        _make_helper = calls.prepare("clone", nap, calls.make_pointer(top), flags, calls.make_pointer(WAITER_RECHECK))
    except (ImportError, AttributeError, OSError):
        _make_helper = None  # no _ctypes, or a libc without clone: children leave plainly


def note_home() -> None:
    """Note in the template what may be held after a child's death, for the template holds it too. To be done again when
    it has loaded more."""
    global _home, _group, _files
    if _make_helper is None:
        return
    try:
        _home, _group, _files = look_round(), os.getpgrp(), list_mapped()
    except OSError:
        _home = ()  # no /proc: children leave plainly


def note_mapped(less: int) -> None:
    """In a child, before it runs anything of the user's: note how much is mapped, less these bytes, which it will unmap
    before that. Where it is the same at its end, it has mapped no file (or one in the place of as much memory)."""
    global _mapped_kib
    if _make_helper is not None:
        try:
            pages = (less + PAGESIZE - 1) // PAGESIZE
            _mapped_kib = memory.get_sizes_kib()[0] - pages * PAGESIZE // 1024
        except OSError:
            _mapped_kib = 0  # no /proc: see may_outlive()


def forget_helper() -> None:
    """Do without: the system does not let one be made (a filter that refuses clone with these flags)."""
    global _make_helper
    _make_helper = None


def try_helper() -> bool | None:
    """Make one, which ends by itself, and tell whether that is possible. None: there is none to be made."""
    return _make_helper() > 0 if _make_helper is not None else None


def leave(code: int) -> NoReturn:
    """Flush, end this process, and have its death known before its memory is torn down.

    The kernel reports a death after it has freed the memory, if nobody else uses that, which takes long where it is
    much. So a helper is made first, which shares the memory and sleeps a millisecond in libc: the kernel then reports our
    death at once, and the helper frees the memory afterwards. It is the template's child (CLONE_PARENT), which reaps it.

    Nothing but memory may be held for longer than the child is known to live: see may_outlive(). All fds are closed
    before, for the helper shares them; so locks on files, pipes and ports are free when the death is known. What is left
    is one more process of this user, for a millisecond, where their number is limited.

    Finalisation, which an interpreter does at its end, would write to every object, and so copy the template's memory
    page by page: 72 to 103 ms on 200,000 objects.
    """
    try:
        try:
            stdio.flush()
        except BaseException:  # of a stream that the program has made, or a signal's
            code = code or 1
            sys.__excepthook__(*sys.exc_info())
        if _make_helper is not None:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, signals.ALL)
            if may_outlive() and _make_helper() > 0:
                fds.close_range(0, fds.HIGHEST)
    finally:
        os._exit(fit_code(code))


def fit_code(code: int) -> int:
    """Give the exit code for a number that a program has left with: its last byte, and 255 for what is no C int, as an
    interpreter has it."""
    return code & 0xFF if -(1 << 31) <= code < 1 << 31 else 255


def may_outlive() -> bool:
    """Would a helper hold nothing but memory that is this process's own? Working directory and process group are given up
    here."""
    if not holds_memory_alone():
        return False
    try:
        os.chdir("/")
        if os.getpgrp() != _group:
            os.setpgid(
                0, _group or -1
            )  # 0, a group in another pid namespace, would be one of our own: refused as -1 is
    except OSError:  # another session than the template's
        return False
    return True


def holds_memory_alone() -> bool:
    """Does this process hold nothing that a helper would keep from others, but for what it can give up? With a second
    thread, which runs on until the end, fds could not be closed before it."""
    try:
        # A folder of one folder has three links: to list it takes twice as long.
        if os.stat("/proc/self/task").st_nlink > 3 or has_gpu():
            return False
        if memory.get_sizes_kib()[0] != _mapped_kib and not list_mapped() <= _files:
            return False
        return look_round() == _home
    except OSError:  # no /proc (any longer)
        return False


def rehearse() -> None:
    """In the template, or a copy of it: look as a child does at its end."""
    if _make_helper is not None:
        holds_memory_alone()


NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid_for_children", "time_for_children", "user", "uts")


def look_round() -> tuple[object, ...]:
    """Give what the kernel counts a process in, or keeps because of it: root directory, ids, cgroups, namespaces."""
    root = os.stat("/")
    spaces = [os.readlink(f"/proc/self/ns/{name}") for name in NAMESPACES]
    ids = os.getresuid(), os.getresgid(), os.getgroups()
    return root.st_dev, root.st_ino, ids, fds.read_whole("/proc/self/cgroup"), spaces


IN_MEMORY = (b"memfd:", b"dev/shm/", b"dev/zero")


def list_mapped() -> frozenset[bytes]:
    """List the files that this process has mapped: their file systems could not be unmounted. Those that are nothing but
    memory don't count."""
    paths = {part[: part.index(b"\n")] for part in fds.read_whole("/proc/self/maps").split(b" /")[1:]}
    return frozenset([path for path in paths if not path.startswith(IN_MEMORY)])


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
        return fit_code(argument)
    try:
        sys.stderr.write(f"{argument}\n")
    except Exception:  # a stderr that is closed, or none; a message that can't be written: as an interpreter does
        return 1
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
