"""What a template has to tell a client, and can't tell it now (M16)."""

from __future__ import annotations

import errno
import os
from select import EPOLLIN, epoll
from time import monotonic

import pytest

from warmfork._machine import sockets
from warmfork._template.clients import MOST_UNSENT, ClientRecord
from warmfork._template.spares import SparePolicy
from warmfork._words import messages, wire


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.ENOBUFS, errno.ETOOMANYREFS, errno.EAGAIN])
def test_a_death_that_cannot_be_told_now_is_told_later(monkeypatch: pytest.MonkeyPatch, number: int):
    """It used to be dropped, where the kernel had no memory for it, and whoever waited for that child waited on."""
    ours, theirs = sockets.make_pair()
    with epoll() as poller:
        client = ClientRecord(ours, os.getpid(), -1, SparePolicy(0), poller)
        poller.register(ours.fileno(), EPOLLIN)
        send, left = sockets.send, [2]

        def send_or_fail(*given: object) -> None:
            if left[0]:
                left[0] -= 1
                raise OSError(number, os.strerror(number))
            send(*given)

        monkeypatch.setattr(sockets, "send", send_or_fail)
        first, second = messages.SpawnFailed(1, 0, "first"), messages.SpawnFailed(2, 0, "second")
        client.tell(first)
        client.tell(second)
        with pytest.raises(BlockingIOError):
            sockets.receive(theirs)
        if number == errno.EAGAIN:
            assert poller.poll(5), "the loop is woken to try again"
        else:
            # Of memory epoll tells nothing: it would say at once, and for ever, that there is room.
            assert not poller.poll(0)
            assert monotonic() < client.retry_at < monotonic() + 0.1
        assert client.flush(), "it is still there"
        assert client.flush()
        assert [wire.decode(sockets.receive(theirs).data) for _ in range(2)] == [first, second], "in this order"
        client.drop()
    theirs.close()


def test_a_client_that_reads_no_answers_is_not_read_from_until_it_does():
    """Each answer holds two fds of the template, and others want children too."""
    ours, theirs = sockets.make_pair()
    with epoll() as poller:
        client = ClientRecord(ours, os.getpid(), -1, SparePolicy(0), poller)
        poller.register(ours.fileno(), EPOLLIN)
        sockets.send(theirs, b"a request")
        number = 0
        while len(client.outbox) < MOST_UNSENT:
            assert poller.poll(0), "requests are heard so far"
            client.tell(messages.SpawnFailed(number, 0, "fork"))
            number += 1
        assert not poller.poll(0)
        told = []
        while len(told) < number:
            told.append(wire.decode(sockets.receive(theirs).data).request)
            assert client.flush()
        assert told == list(range(number))
        assert poller.poll(0) == [(ours.fileno(), EPOLLIN)]
        client.drop()
    theirs.close()


def test_a_client_of_which_it_can_not_be_seen_what_it_may_do_gets_no_child(monkeypatch: pytest.MonkeyPatch):
    """Nothing seen of it, and nothing of ourselves, where there is no file left to look, is not the same."""
    ours, theirs = sockets.make_pair()

    def refuse(path: str, size: int = 0) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files")

    with epoll() as poller:
        client = ClientRecord(ours, os.getpid(), -1, SparePolicy(0), poller)
        assert not client.has_less()
        with monkeypatch.context() as patch:
            patch.setattr("warmfork._machine.fds.read_file", refuse)
            with pytest.raises(OSError, match="Too many"):
                client.has_less()
        assert not client.has_less()
        client.drop()
    theirs.close()
