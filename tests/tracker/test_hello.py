"""A hello that is no hello costs its sender its channel, and nobody else anything (M10, row 34)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import warmfork
from tests.running import get_tracker
from warmfork._client.client import Client, get_client
from warmfork._machine import fds, memfds, sockets
from warmfork._words import messages, wire


@pytest.fixture
def client() -> Iterator[Client]:
    """This program's client; at the end its tracker is the same, and serves."""
    client = get_client()
    with warmfork.Template() as template:
        template.wait_ready()  # the first hello of a tree is met before the loop
    tracker = get_tracker()
    yield client
    with warmfork.Template() as template:
        assert template.start(os.getppid).result(30) == template.pid
    assert get_tracker() == tracker > 0


@pytest.fixture
def spec() -> Iterator[int]:
    fd = memfds.make_memory("warmfork-spec", wire.encode(warmfork.Template()._get_spec(), 1 << 30))
    yield fd
    os.close(fd)


def say_hello(client: Client, spec: int, pidfd: int, stdio: int = 0, streams: tuple[int, ...] = ()) -> bytes:
    """Say it, and give what comes back."""
    channel, theirs = sockets.make_pair()
    try:
        message = wire.encode(messages.Hello(os.getpid(), 0, stdio))
        sockets.send(client.door, message, [theirs.fileno(), pidfd, spec, client.door.fileno(), *streams])
        theirs.close()
        assert fds.wait_readable(channel.fileno(), 10)
        return sockets.receive(channel).data
    finally:
        channel.close()


@pytest.fixture
def me() -> Iterator[int]:
    fd = os.pidfd_open(os.getpid())
    yield fd
    os.close(fd)


@pytest.mark.parametrize(("stdio", "streams"), [(3, ()), (3, (1,)), (1, ()), (0, (1,))])
def test_a_hello_whose_fds_did_not_all_arrive_is_dropped(client, spec, me, stdio, streams):
    assert say_hello(client, spec, me, stdio, streams) == b""


def test_a_pidfd_on_somebody_else_is_refused(client, spec):
    other = os.pidfd_open(get_tracker())
    answer = wire.decode(say_hello(client, spec, other))
    os.close(other)
    assert answer == messages.Refused("the pidfd in the request is not on its sender", 0)


def test_a_spec_that_cannot_be_read_or_is_none_is_refused(client, me, tmp_path: Path):
    (tmp_path / "file").write_bytes(b"x" * 10)
    read, write = os.pipe()
    others = {
        "write only": os.open(tmp_path / "file", os.O_WRONLY),
        "text": os.open(tmp_path / "file", os.O_RDONLY),
        "a folder": os.open(tmp_path, os.O_RDONLY),
        "a message": memfds.make_memory("warmfork-test", wire.encode(messages.Ask(1, 1))),
    }
    for spec in (*others.values(), read, write):
        answer = wire.decode(say_hello(client, spec, me))
        assert isinstance(answer, messages.Refused)
        assert answer.why.startswith("no spec: ")
        os.close(spec)


def test_a_template_that_dies_right_after_its_fork_has_a_board_that_can_be_read(monkeypatch: pytest.MonkeyPatch):
    """It used to size its board itself; a tracker that read the board of one that had not died of it."""
    from warmfork._tracker import first
    from warmfork._words import board

    monkeypatch.setattr(first.os, "fork", lambda: 1)  # never a process: what was made before the fork is looked at
    ours, theirs = sockets.make_pair()
    hello = wire.encode(messages.Hello(1, 0, 0))
    got = sockets.Received(hello, [-1] * 4, 1, False, os.getuid(), os.getgid())
    started = first.fork_template(theirs.fileno(), (), got, first.os._exit)
    assert os.fstat(started.board.fileno()).st_size == board.SIZE
    started.control.close()
    ours.close()
    theirs.close()


def test_a_spec_that_says_that_it_is_a_terabyte_is_refused(client, me):
    """Reading it was the tracker's death."""
    fd = os.memfd_create("vast")
    os.ftruncate(fd, 1 << 40)
    answer = say_hello(client, fd, me)
    assert b"no spec" in answer
    os.close(fd)
