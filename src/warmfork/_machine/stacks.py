"""The Python stack of a process that a fault kills (SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL): where it is written, and
reading it when the process is dead.

faulthandler writes it, which is part of the interpreter. The template switches it on once, before its first fork, and
a child inherits that: handlers, alternate stack, and the number of an fd. So a child that does not crash pays for one
file position of its own behind that number (5 us, while its client learns that it exists), and nobody holds an fd for
it. All write to one file, which survives template and child; each has room for the largest stack there is, so that no
crash touches what another one wrote. Nobody maps that file, and what is read from it is text and nothing else: a child
may write there what it likes.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from resource import RLIM_INFINITY, RLIMIT_FSIZE, getrlimit

from warmfork._machine import fds, memory, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FATAL = (4, 6, 7, 8, 11)
"""The signals that faulthandler handles: ILL, ABRT, BUS, FPE, SEGV."""

MOST = 16_000
"""Bytes of a stack that are kept. It begins with the innermost frames, so what is cut off is how they were come by."""

ROOM = 1 << 24
"""Bytes that each process has for its stack, by its pid. faulthandler writes 100 frames of 100 threads at most, 11 MB with
the longest names there can be. The file is sparse: only what is written takes memory."""

_fd = -1
_identity = (0, 0)


def enable(fd: int) -> bool:
    """Have the stacks of this process and of its forks written to the file that this fd is open on.

    False where somebody has switched faulthandler on already (-X faulthandler, or a preload): it stays theirs, and
    writes to where they want it. False where files have a limit of size, which would turn a SIGSEGV into a SIGXFSZ.
    """
    global _fd, _identity
    if faulthandler.is_enabled() or is_limited(getrlimit(RLIMIT_FSIZE)):
        return False
    own = signals.list_set(FATAL)
    os.lseek(fd, os.getpid() * ROOM, os.SEEK_SET)
    switch_on(fd)
    for number, disposition in own.items():
        signals.set_disposition(number, disposition)  # a preload's own handlers stay
    _fd, _identity = fd, fds.identify(fd)
    return True


def switch_on(fd: int) -> None:
    """Have the Python stack written there, and no C stack: glibc's backtrace() may allocate, and hang in a process that
    crashed in malloc(); and what is quoted has no room for both."""
    if sys.version_info >= (3, 14):
        faulthandler.enable(fd, c_stack=False)
    else:
        faulthandler.enable(fd)


class Preloading:
    """While a template preloads: the stack of a crash goes to its log, which PreloadError quotes. Where a preload switches
    faulthandler on, it stays on, and the preload's."""

    def __init__(self, log: int) -> None:
        self.log = log
        self.real = faulthandler.enable
        self.is_ours = not faulthandler.is_enabled()

    def __enter__(self) -> None:
        if self.is_ours:
            switch_on(self.log)
            faulthandler.enable = self.note

    def note(self, *arguments: Any, **named: Any) -> None:
        """Stands for faulthandler.enable()."""
        self.real(*arguments, **named)
        self.is_ours = False

    def __exit__(self, *_: object) -> None:
        if faulthandler.enable == self.note:
            faulthandler.enable = self.real
        if self.is_ours:
            faulthandler.disable()


def take_own() -> None:
    """In a forked copy: write to a place of our own. One that can't (no /proc, no fds) leaves no stack."""
    if _fd < 0 or not fds.is_still(_fd, _identity):
        return
    try:
        own = os.open(f"/proc/self/fd/{_fd}", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        disable()
        return
    os.lseek(own, os.getpid() * ROOM, os.SEEK_SET)
    os.dup2(own, _fd, False)
    os.close(own)


def disable() -> None:
    """Leave no stack. Where somebody has taken faulthandler for their own, it goes on for them."""
    global _fd
    if _fd >= 0 and fds.is_still(_fd, _identity):
        null = fds.open_null()
        os.dup2(null, _fd, False)
        os.close(null)
    _fd = -1


def is_limited(limits: tuple[int, int]) -> bool:
    """Is there a limit of the size of files (RLIMIT_FSIZE)?"""
    return limits[0] != RLIM_INFINITY


def read(fd: int, pid: int) -> str:
    """Give the stack that a dead process left in this file, "" where it left none, and free its memory."""
    at = pid * ROOM
    data = os.pread(fd, MOST, at)
    if not data.startswith(b"Fatal Python error"):
        return ""
    memory.punch_hole(fd, at, ROOM)
    return leave_out_own(data.rstrip(b"\0").decode("utf-8", "replace"))


MOST_HELD = 64 << 20
"""Bytes that the file may take. Who crashes leaves a few thousand, which are given back as soon as they are read."""


def free_excess(fd: int) -> None:
    """Give all memory of this file back, if it is more than any number of stacks: a child may write there what it likes, and
    nobody else would give it back when that is dead."""
    info = os.fstat(fd)
    if info.st_blocks * 512 > MOST_HELD:
        memory.punch_hole(fd, 0, info.st_size)


def leave_out_own(stack: str) -> str:
    """Leave our own frames out of a stack that has others: the way from the fork to the user's function."""
    lines = stack.splitlines(keepends=True)
    frames = [line for line in lines if line.startswith(FRAME)]
    if all(line.startswith(OWN_FRAME) for line in frames):
        return stack
    return "".join(line for line in lines if not line.startswith(OWN_FRAME))


FRAME = '  File "'
OWN_FRAME = FRAME + __file__.removesuffix("_machine/stacks.py")
