"""A child's link to whoever started it: the socket by which it was given its call, and what it says on it."""

from __future__ import annotations

import os
from _thread import RLock

from warmfork._client.fd_list import Owned
from warmfork._machine import fds, sockets, spilled
from warmfork._words import messages, protocol, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Link:
    """The socket (`feed`), what has come on it, and what has to be kept until the child has become what was asked.

    It lives on in the client's `in_birth` where the handle is dropped before that.
    """

    def __init__(self, pid: int, replies: bool) -> None:
        self.pid = pid
        self.feed: sockets.socket | None = None
        self.keep: object = None
        self.births: set[Link] | None = None
        self.fed_us = 0  # when the child was handed its call (monotonic)
        self.state = "open"
        self.words: list[messages.Message] = []
        self.pidfd = fds.Fd(-1)
        self._memory = fds.Fd(-1)
        self._replies = replies
        self._room: bytes | None = None
        self._reading = RLock()  # any thread's start() may read what this child says, see Client.tidy()
        self._unread: list[Any] = []  # what the child said, as it came

    def fileno(self) -> int:
        """Give the pidfd of the child. Raises ValueError where it is closed."""
        number = self.pidfd.fileno()
        if number < 0:
            raise ValueError("this handle is closed")
        return number

    def read_buffers_at(self) -> bytes | None:
        """Give where the child wants the large parts of its payload, once it has said so."""
        self.read()
        return self._room

    def is_birth_over(self) -> bool:
        """Has the child said that it has become what was asked, or that it could not?"""
        return self.state not in ("open", "waiting")

    def look(self) -> None:
        """Let go of what was kept for the child, if its birth is over."""
        self.read()
        if self.keep is None and (self.feed is None or self._replies) and self.births is not None:
            self.births.discard(self)

    def read(self) -> None:
        """Read what the child has said so far."""
        with self._reading:
            # Of its own name: a signal handler that starts a process may read to the end, and close it, at any moment.
            while (feed := self.feed) is not None and self.state != "ended":
                if not sockets.receive_next(self._unread, feed):
                    return
                self._take_word()

    def _take_word(self) -> None:
        """Enter the first of what was read."""
        item = self._unread[0] if self._unread else None
        if item is None:
            return  # a signal handler has read on
        got = sockets.unpack_received(item)
        held = Owned()  # closes what nobody takes
        said: list[messages.Message] = []
        try:
            message = wire.decode(got.data)
            after = protocol.step(protocol.FEED, self.state, protocol.UP, message)
            said.append(message)
        except ValueError:  # the end of the feed, or nonsense: the child has no more to say that we could hear
            after = "ended"
        # At once, as in Children.take():
        if not self._unread or self._unread[0] is not item:
            return
        del self._unread[0]
        held[:] = got.fds
        list(map(sockets.stop_lingering, held))  # nobody may ever ask for the result
        self.state = after
        if said and isinstance(said[0], messages.BuffersAt):
            self._room = said[0].addresses
            return
        self.words += said
        if held and said and isinstance(said[0], (messages.Returned, messages.Raised)):  # its last word
            self._memory.number, held[:] = held[0], held[1:]
        self.keep = None
        if not self._replies or (said and after == "ended"):
            self.close()

    def unpickle(self, message: messages.Returned | messages.Raised) -> object:
        """Unpickle what came along."""
        from pickle import loads

        if not self._memory:
            return loads(message.inline)
        with self._memory:
            data, buffers = spilled.map_spilled(self._memory.fileno(), message.size, message.buffers)
            return loads(data, buffers=buffers)

    def close(self) -> None:
        """Close the socket, and drop what was kept for the child."""
        self.keep = None
        if self.births is not None:
            self.births.discard(self)
        feed, self.feed = self.feed, None
        if feed is not None:
            feed.close()

    def close_pidfd(self, identity: tuple[int, int]) -> None:
        """Close the pidfd, if it is still ours."""
        number = self.pidfd.release()
        if number >= 0 and fds.is_still(number, identity):
            os.close(number)
