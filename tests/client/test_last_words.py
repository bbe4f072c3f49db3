"""What somebody has said before it died is heard, though it died with something unread: then the kernel says that first
(M3)."""

from __future__ import annotations

from warmfork._client.channel import Channel
from warmfork._client.link import Link
from warmfork._machine import sockets
from warmfork._words import messages, wire
from warmfork._words.children import Record


def test_a_template_that_dies_with_a_request_unread_is_heard_to_the_end():
    ours, theirs = sockets.make_pair()
    channel = Channel(ours)
    try:
        channel.state = "served"
        record = channel.children.living[5] = Record(5)
        channel.request(channel.take_number(), False, "unread")
        sockets.send(theirs, wire.encode(messages.Exited(5, 7 << 8, 1, 2, 3, 4)))
        theirs.close()
        channel.catch_up()
        assert record.exited is not None and record.exited.status == 7 << 8
        assert channel.dead
    finally:
        channel.close()


def test_a_child_that_dies_with_something_unread_is_heard_to_the_end():
    ours, theirs = sockets.make_pair()
    link = Link(5, replies=True)
    link.feed = ours
    try:
        sockets.send(ours, b"unread")
        for word in (messages.Became(), messages.Returned(1, 0, b"x")):
            sockets.send(theirs, wire.encode(word))
        theirs.close()
        link.read()
        assert link.words == [messages.Became(), messages.Returned(1, 0, b"x")]
    finally:
        link.close()


def test_what_a_signal_handler_has_read_to_the_end_and_closed_meanwhile_is_no_error():
    class Interrupted(Link):
        """A handler that starts a process comes whenever this one looks how far the child is."""

        @property
        def state(self) -> str:
            link, before = self.interrupted, self._state
            if link is not None:
                self.interrupted = None
                link.read()
                link.close()
            return before

        @state.setter
        def state(self, state: str) -> None:
            self._state = state

        interrupted: Link | None = None

    ours, theirs = sockets.make_pair()
    link = Interrupted(5, replies=True)
    link.feed = ours
    sockets.send(theirs, wire.encode(messages.Became()))
    theirs.close()
    link.interrupted = link
    link.read()
    assert link.words == [messages.Became()]
    assert link.feed is None and ours.fileno() == -1
