"""A module to preload: it notes in which process it was imported, and where fill() was called."""

from __future__ import annotations

import os
import select
from resource import RUSAGE_SELF, getrusage

imported_by = os.getpid()
filled_by: list[int] = []


def fill() -> None:
    filled_by.append(os.getpid())


def shorten_lives() -> None:
    """Preloaded: a spare leaves after a fifth of a second, not after five."""
    from warmfork._template import spares

    spares.LIFE = 0.2


taken: list[int] = []
"""The page faults that this process had had when it was taken, of a spare."""


def note_faults() -> None:
    """Preloaded: a spare notes how many page faults it has had, when it is taken."""
    from warmfork._child import birth

    wait = birth.wait_as_spare

    def wait_and_note(of: birth.Birth) -> None:
        wait(of)
        taken.append(getrusage(RUSAGE_SELF).ru_minflt)

    birth.wait_as_spare = wait_and_note


def count_faults() -> int:
    """Give how many this child has had since it was taken: -1 of one that was no spare."""
    return getrusage(RUSAGE_SELF).ru_minflt - taken[-1] if taken else -1


def leave_slowly() -> None:
    """Preloaded: a spare whose life is over takes a while to say so, in which it may be taken."""
    from warmfork._machine import fds
    from warmfork._template import spares

    spares.LIFE = 0.2
    list_readable = fds.list_readable

    def wait_and_linger(these: tuple[int, ...], timeout: float | None) -> list[int]:
        ready = list_readable(these, timeout)
        if not ready and timeout == spares.LIFE:
            with open(f"/proc/{os.getpid()}/comm", "w") as name:
                name.write("leaving")
            select.select((), (), (), 0.5)
        return ready

    fds.list_readable = wait_and_linger


def end_before_the_feed() -> None:
    """Preloaded: a child ends by itself, with exit code 0, before it reads anything."""
    from warmfork._child import birth

    steps = [(name, (lambda _: os._exit(0)) if name == "feed" else step) for name, step in birth.STEPS]
    birth.STEPS = tuple(steps)


def handle_signals() -> None:
    """Preloaded: handlers that a spare must not call."""
    import signal

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda *_: None)


def wait_in_state() -> None:
    """Preloaded: a birth waits in its step "state" until somebody has written to the FIFO that WARM_FIFO names, if that is
    there."""
    from collections.abc import Callable

    from warmfork._child import birth

    path, template = os.environ["WARM_FIFO"], os.getpid()

    def slow(step: Callable[[birth.Birth], object]) -> Callable[[birth.Birth], object]:
        def wait(of: birth.Birth) -> object:
            if os.getpid() != template and os.path.exists(path):
                with open(path) as fifo:
                    fifo.readline()
            return step(of)

        return wait

    birth.STEPS = tuple((name, slow(step) if name == "state" else step) for name, step in birth.STEPS)
