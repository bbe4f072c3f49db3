"""Signal masks and dispositions by number, through _signal: the signal module makes an enum of each, at 63 us a call."""

from __future__ import annotations

import _signal

from warmfork._machine import calls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

SIG_DFL, SIG_IGN = 0, 1
ALL = tuple(sorted(map(int, _signal.valid_signals())))
"""Every signal but those that the C library keeps to itself: 32 and 33, and musl 34 too."""
FAULTS = (4, 5, 6, 7, 8, 11, 31)  # ILL, TRAP, ABRT, BUS, FPE, SEGV, SYS: blocking them only hides where they came from
CHILD_DIED = 17
HELPERS_BLOCK = tuple(number for number in ALL if number not in FAULTS and number != CHILD_DIED)
"""What template and tracker never take: they end by pidfd, not by signals sent to the group (^C, ^Z, hangup)."""

FORCED = (9, 19)  # KILL, STOP: can be neither blocked nor ignored


def set_mask(numbers: Iterable[int]) -> None:
    """Block exactly these signals."""
    _signal.pthread_sigmask(_signal.SIG_SETMASK, numbers)


def get_mask() -> tuple[int, ...]:
    """Give the signals that the calling thread blocks."""
    return tuple(sorted(map(int, _signal.pthread_sigmask(_signal.SIG_BLOCK, ()))))


def list_ignored() -> tuple[int, ...]:
    """List the signals that this process ignores, as Python knows it (it reads them when the interpreter starts)."""
    getsignal = _signal.getsignal
    return tuple(number for number in ALL if getsignal(number) == SIG_IGN)


def list_set(numbers: Iterable[int]) -> dict[int, object]:
    """Give those of these signals that Python code handles or ignores, with handler or SIG_IGN."""
    found = {number: _signal.getsignal(number) for number in numbers}
    return {number: disposition for number, disposition in found.items() if disposition not in (SIG_DFL, None)}


def open_signals() -> int:
    """Open an fd that is readable while a signal waits that is blocked (signalfd(2), Linux 2.6.27): for whoever polls it,
    not for whoever opened it. -1 where there is none: a filter, or this Python has no _ctypes."""
    try:
        return calls.call("signalfd", -1, b"\xff" * SIGSET, SFD_CLOEXEC | SFD_NONBLOCK)
    except (ImportError, OSError):
        return -1


SIGSET = 128
"""Bytes of a sigset_t of the C library."""
SFD_CLOEXEC, SFD_NONBLOCK = 0o2000000, 0o4000

IGNORED, STOPPING = (17, 18, 23, 28), (20, 21, 22)  # CHLD, CONT, URG, WINCH; TSTP, TTIN, TTOU
"""Signals that end nobody who has made no arrangements for them."""


def take_waiting() -> None:
    """Have those signals that are blocked, and wait, do to this process what they do to one that has made no arrangements
    for them: end it, mostly. No handler is called."""
    for number in _signal.sigpending():
        if number in IGNORED or number in STOPPING:
            _signal.sigtimedwait((number,), 0)
            if number in STOPPING:
                _signal.raise_signal(FORCED[1])
        else:
            set_disposition(number, SIG_DFL)
            _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (number,))


def wake_by_deaths(wake: int) -> tuple[int, object]:
    """Have SIGCHLD write to this fd. Gives the fd to which signals wrote before, and what has handled this one."""
    before = _signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    # A Python handler has to exist for the byte to be written.
    return before, _signal.signal(CHILD_DIED, lambda number, frame: None)


def set_disposition(number: int, disposition: object) -> None:
    """Set handler, SIG_DFL or SIG_IGN for this signal."""
    _signal.signal(number, disposition)
