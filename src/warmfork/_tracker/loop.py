"""What the tracker waits for: fds, each with what is to be done when something happens on it."""

from __future__ import annotations

from select import EPOLLIN, epoll

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Loop:
    """Fds and their handlers."""

    def __init__(self) -> None:
        self.poller = epoll()
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.fresh: set[int] = set()  # watched since the last poll, which tells nothing of them

    def watch(self, fd: int, handler: Callable[[int], None]) -> None:
        """Call this handler when something happens on this fd."""
        self.handlers[fd] = handler
        self.fresh.add(fd)
        self.poller.register(fd, EPOLLIN)

    def forget(self, fd: int) -> None:
        """Stop watching. Always before the fd is closed: a fork may hold its file open, and epoll would then report it
        for ever."""
        del self.handlers[fd]
        self.poller.unregister(fd)

    def turn(self, timeout: float | None) -> None:
        """Wait for something to happen, up to `timeout` seconds (None: for ever), and handle it."""
        self.fresh.clear()
        for fd, events in self.poller.poll(timeout):
            handler = self.handlers.get(fd)
            # What happened on an fd that an earlier handler has closed did not happen on the one that has its number now:
            # a living program was taken for dead that way, and its children ended.
            if handler is not None and fd not in self.fresh:
                handler(events)
