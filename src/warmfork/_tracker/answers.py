"""Answering whoever asks at the door: one message, and the socket is closed."""

from __future__ import annotations

from warmfork._machine import sockets
from warmfork._words import messages, wire


def answer_channel(channel: int, message: messages.Message) -> None:
    """Answer on a client's channel in the template's place, if it is one; it stays its owner's. Takes no fd: that there is
    none may be the answer."""
    try:
        socket = sockets.socket(*sockets.KIND, channel)
    except OSError:
        return
    try:
        sockets.try_to_send(socket, wire.encode(message))
    finally:
        socket.detach()


def refuse(channel: int, why: str) -> None:
    """Say why there is no template."""
    answer_channel(channel, messages.Refused(why, 0))


def send_answer(answer: sockets.socket, message: messages.Message) -> None:
    """Send the one answer, and close."""
    try:
        sockets.try_to_send(answer, wire.encode(message))
    finally:
        answer.close()
