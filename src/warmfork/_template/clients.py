"""A client as its template sees it: its channel, its children, and what could not be sent to it yet."""

from __future__ import annotations

from _collections import deque  # without the collections module, which costs a bare template 2 ms
from select import EPOLLIN, EPOLLOUT
from time import monotonic

from warmfork._machine import fds, pids, role, sockets
from warmfork._words import messages, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from select import epoll

    from warmfork._template.spares import SparePolicy

MOST_UNSENT = 16
"""Messages that may wait for a client that reads none, before nothing more is read from it: each holds two fds."""

PAUSE = 0.001
"""Seconds before the next try where the kernel is short of something (ENOBUFS): epoll tells nothing of that."""


class ClientRecord:
    """A process that asks for children."""

    def __init__(self, channel: sockets.socket, pid: int, pidfd: int, traffic: SparePolicy, poller: epoll) -> None:
        self.channel: sockets.socket | None = channel
        self.pid = pid
        self.pidfd = pidfd
        self.stack = pids.read_start_stack(pid)
        self.rights: list[bytes] = []  # as they were when that was found to be enough
        self.traffic = traffic
        self.poller = poller
        self.events = EPOLLIN
        self.retry_at: float | None = None  # when to send again, by monotonic()
        self.children: set[int] = set()
        self.outbox: deque[tuple[bytes, tuple[int, ...]]] = deque()

    def tell(self, message: messages.Message, passed: tuple[int, ...] = ()) -> None:
        """Send to this client, or keep it for later where the client is behind. `passed` fds are closed."""
        if self.channel is None:
            fds.close_all(passed)
            return
        data = wire.encode(message)
        if self.outbox:
            self.outbox.append((data, passed))
            self.choose_events()
            return
        try:
            sockets.send(self.channel, data, passed)
        except OSError as error:
            spawned = isinstance(message, messages.Spawned)
            if isinstance(error, BlockingIOError) or (error.errno in sockets.PASSING and not spawned):
                # A death that is not told would be waited for for ever.
                self.outbox.append((data, passed))
                self.note_failure(error)
                return
            fds.close_all(passed)
            if isinstance(message, messages.Spawned) and message.request:
                # ETOOMANYREFS: too many fds in flight for this user. The child leaves: its feed is closed.
                self.tell(messages.SpawnFailed(message.request, error.errno or 0, "sendmsg"))
            return  # EPIPE, ECONNRESET: the pidfd will tell
        fds.close_all(passed)

    def note_failure(self, error: OSError) -> None:
        """What could not be sent waits: for room, which epoll tells of, or for a moment."""
        self.retry_at = None if isinstance(error, BlockingIOError) else monotonic() + PAUSE
        self.choose_events()

    def choose_events(self) -> None:
        """Have epoll tell what we can do something about: room, where something waits for it; requests, unless the
        client reads no answers."""
        wanted = 0 if len(self.outbox) >= MOST_UNSENT else EPOLLIN
        if self.outbox and self.retry_at is None:
            wanted |= EPOLLOUT
        if self.channel is not None and wanted != self.events:
            self.events = wanted
            self.poller.modify(self.channel.fileno(), wanted)

    def flush(self) -> bool:
        """Send what was kept. False where the client is gone."""
        self.retry_at = None
        while self.outbox and self.channel is not None:
            data, passed = self.outbox[0]
            try:
                sockets.send(self.channel, data, passed)
            except OSError as error:
                self.note_failure(error)
                return isinstance(error, BlockingIOError) or error.errno in sockets.PASSING
            self.outbox.popleft()
            fds.close_all(passed)
        self.choose_events()
        return True

    def is_another_program(self) -> bool:
        """Has it exec'd since we know it? To be asked where its channel ended, which an exec closes: what it started is
        nobody's then, though its pid and its pidfd live on."""
        return self.stack != 0 and pids.read_start_stack(self.pid) != self.stack

    def has_less(self) -> bool:
        """May it do less by now than our children may? It looks itself before it asks; but whoever has taken it over does
        not, and it may have asked the tracker for us before it gave up its rights. Raises OSError where that can't be
        seen."""
        now = pids.read_rights(self.pid)
        if now != self.rights:
            if now != pids.read_rights("self"):
                from warmfork._machine import rights

                if rights.find_less(self.pid, role.tracker[0] if role.is_tracker_alive() else "self"):
                    return True
            self.rights = now
        return False

    def drop(self) -> None:
        """Close the channel, and what was kept for it."""
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        self.retry_at = None
        for _, passed in self.outbox:
            fds.close_all(passed)
        self.outbox.clear()
