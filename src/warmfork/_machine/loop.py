"""The loop of a supervisor, tracker or template: fds, each with what is to be done when something happens on it.

It is also the firewall. What a handler raises costs whoever caused it, and never the process: the error is reported with
its traceback, the sender is dropped, and the loop goes on.
"""

from __future__ import annotations

import os
from select import EPOLLIN, epoll
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

REPORTS, WINDOW = 10, 60.0
"""Errors that are reported at most within so many seconds. Whoever can cause one can cause a million."""


class Loop:
    """Fds and their handlers."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self.report = report  # has somebody read of an error, and must not raise
        self.owner = os.getpid()
        self.poller = epoll()
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.drops: dict[int, Callable[[], None]] = {}
        self.fresh: set[int] = set()  # watched since the last poll, which tells nothing of them
        self.reported: list[float] = []

    def watch(
        self, fd: int, handler: Callable[[int], None], events: int = EPOLLIN, drop: Callable[[], None] | None = None
    ) -> None:
        """Call this handler when something happens on this fd. `drop` lets go of whoever is at the other end: called
        where the handler raises. Raises OSError, with nothing watched."""
        self.poller.register(fd, events)
        self.handlers[fd] = handler
        self.fresh.add(fd)
        if drop is not None:
            self.drops[fd] = drop

    def forget(self, fd: int) -> None:
        """Stop watching; an fd that is not watched is none's loss. Always before the fd is closed: a fork may hold its
        file open, and epoll would then report it for ever (44,965 events in 50 ms)."""
        if self.handlers.pop(fd, None) is not None:
            self.drops.pop(fd, None)
            self.fresh.discard(fd)
            self.poller.unregister(fd)

    def turn(self, timeout: float | None) -> bool:
        """Wait for something to happen, up to `timeout` seconds (None: for ever), and handle it. False: nothing has.

        Returns early, in a child that a handler has forked."""
        self.fresh.clear()
        happened = self.poller.poll(timeout)
        for fd, events in happened:
            handler = self.handlers.get(fd)
            # What happened on an fd that an earlier handler has closed did not happen on the one that has its number now:
            # a living program was taken for dead that way, and its children ended.
            if handler is None or fd in self.fresh:
                continue
            self.guard(handler, events, self.drops.get(fd))
            if os.getpid() != self.owner:
                return True
        return bool(happened)

    def guard(self, action: Callable[..., object], *arguments: object) -> None:
        """Call an action whose last argument is what lets go of the one who caused it (or None), and which is called
        where the action raises. In a forked child what is raised goes on: there it is not this loop's any longer."""
        *passed, drop = arguments
        try:
            action(*passed)
        except Exception as error:
            if os.getpid() != self.owner:
                raise
            self.tell(error)
            if callable(drop):
                try:
                    drop()
                except Exception as second:
                    self.tell(second)

    def tell(self, error: Exception) -> None:
        """Report an error with its traceback, unless there were too many of late."""
        now = monotonic()
        self.reported = [at for at in self.reported if now - at < WINDOW]
        if len(self.reported) >= REPORTS:
            return
        self.reported.append(now)
        try:
            from traceback import format_exception

            text = "".join(format_exception(error))
        except Exception:  # it can't be loaded where this process is out of files
            text = repr(error)
        self.report(text)
