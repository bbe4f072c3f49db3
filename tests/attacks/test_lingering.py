"""A child sends a socket whose last close() waits, for whoever it was sent to: nobody waits for it."""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Callable
from time import monotonic

import pytest

import warmfork
from tests import targets
from tests.attacks import attackers
from tests.support import wait_until
from warmfork._machine import role, sockets
from warmfork._words import messages, wire

LINGERS = 30
"""Seconds. What is done in this file takes one."""

SOON = 15


def make_lingering() -> list[int]:
    """A socket whose last close() waits, for its receiver reads nothing: its fd comes last, the others are to be kept."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    listener.bind(("127.0.0.1", 0))
    listener.listen(1)
    sender = socket.create_connection(listener.getsockname())
    receiver, _ = listener.accept()
    sender.setblocking(False)
    try:
        while True:
            sender.send(b"x" * 65_536)
    except BlockingIOError:
        sender.setblocking(True)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, LINGERS))
    return [listener.detach(), receiver.detach(), sender.detach()]


def test_closing_what_somebody_sent_waits_for_nobody():
    closers: list[Callable[[int], object]] = [
        sockets.close_foreign,
        lambda fd: sockets.Received(b"", [fd], 0, False).close(),
        adopt,
    ]
    for close in closers:
        *kept, fd = make_lingering()
        before = monotonic()
        close(fd)
        assert monotonic() - before < SOON
        assert not os.path.exists(f"/proc/self/fd/{fd}")
        for other in kept:
            os.close(other)


def adopt(fd: int) -> None:
    with pytest.raises(sockets.NoSocket):
        sockets.adopt_socket(fd)


def send_lingering(to: sockets.socket, data: bytes, most: int) -> None:
    """Send one, among so many fds, and close ours: the last is the receiver's."""
    *kept, fd = make_lingering()
    null = os.open("/dev/null", os.O_RDONLY)
    try:
        sockets.send_within(to, data, [*[null] * (most - 1), fd])
    finally:
        os.close(fd)
        os.close(null)
    _kept.append(kept)


_kept: list[list[int]] = []


def send_to_tracker(other_user: bool) -> None:
    "a".encode("idna")  # loads what connecting needs
    door = sockets.adopt_socket(os.dup(role.door))
    if other_user:
        attackers.become_nobody()
    for data in (b"?", b"", wire.encode(messages.Register("file", "/x/y")), b"!"):
        for most in (1, 9, 200):
            send_lingering(door, data, most)


@pytest.mark.parametrize(
    "other_user",
    [
        False,
        pytest.param(True, marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")),
    ],
)
def test_a_socket_that_lingers_does_not_hold_up_the_tracker(other_user: bool):
    with warmfork.Template(["tests.attacks.test_lingering"], spares=0) as template:
        template.start(send_to_tracker, (other_user,)).result(SOON)
        with warmfork.Template(name="another", start_timeout=SOON) as another:
            assert another.start(targets.give, (3,)).result(SOON) == 3


def send_to_template() -> None:
    from warmfork._client.client import get_client

    with warmfork.Template(["tests.attacks.test_lingering"], spares=0) as template:
        template.start(targets.give, (1,)).result(SOON)
        (channel,) = get_client().channels.values()
        for most in (200, 9, 1):
            send_lingering(channel.socket, wire.encode(messages.SpareTaken(1, 1, "x")), most)
        send_lingering(channel.socket, b"nonsense", 1)


def test_a_socket_that_lingers_does_not_hold_up_the_template():
    with warmfork.Template(["tests.attacks.test_lingering"], spares=0) as template:
        pid = template.start(os.getppid).result(SOON)
        template.start(send_to_template).result(SOON)
        assert template.start(os.getppid).result(SOON) == pid


def wait_with(_: object) -> None:
    targets.wait()


class Sprays:
    """Says something on its feed where it is unpickled, and comes back as nothing."""

    def __init__(self, data: bytes, most: int) -> None:
        self.data, self.most = data, most

    def __reduce__(self) -> object:
        return spray, (self.data, self.most)


def spray(data: bytes, most: int) -> None:
    from warmfork._child.birth import Birth

    frame = sys._getframe()
    while not isinstance(birth := frame.f_locals.get("birth"), Birth):
        frame = frame.f_back
    send_lingering(birth.socket, data, most)


SAID = {
    "nonsense": b"nonsense",
    "Became": wire.encode(messages.Became()),
    "BuffersAt": wire.encode(messages.BuffersAt(b"")),
    "BirthFailed": wire.encode(messages.BirthFailed("payload", "x", "y")),
}


@pytest.mark.parametrize("most", [1, 9])
@pytest.mark.parametrize("said", SAID)
def test_a_socket_that_lingers_does_not_hold_up_the_program(said: str, most: int):
    with warmfork.Template(["tests.attacks.test_lingering"], spares=0) as template:
        child = template.start(wait_with, (Sprays(SAID[said], most),))
        before = monotonic()
        wait_until(
            lambda: child._link.words or child._link.read() or child._link.is_birth_over() or said == "BuffersAt"
        )
        for _ in range(2):
            assert template.start(targets.give, (1,)).result(SOON) == 1
        child.kill()
        child.wait(SOON)
        child.close()
        assert monotonic() - before < SOON
