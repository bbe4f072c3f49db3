"""Room for what is large: memory for the parts of a payload, which the client writes.

It is the child's own, anonymous and private: writable as users expect, in huge pages where the kernel has some,
and there is no file that could be full or cut short under it.
"""

from __future__ import annotations

import os
from _struct import pack

from warmfork._child import ending
from warmfork._machine import calls, fds, memory, sockets
from warmfork._words import buffers as buffers_
from warmfork._words import messages, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from warmfork._child.birth import Birth


def prepare() -> None:
    """Have made what fill() makes at its first call: done in the template, in its idle time."""
    calls.get_address(b"")


def fill(birth: Birth) -> None:
    """Make the memory, tell the client where it is, and wait until it is filled. Raises OSError where there is no memory."""
    sizes: tuple[int, ...] = birth.state["buffers"]
    try:
        huge = birth.spec.huge_pages != "off"
        views = [memoryview(memory.map_private(size, huge)) for size in sizes]
    except OSError as error:
        raise OSError(error.errno, f"no memory for {sum(sizes):,} bytes of arguments: {error.strerror}") from error
    birth.announce(messages.BuffersAt(b"".join([pack("<q", calls.get_address(view)) for view in views])))
    follows = wait_filled(birth)
    if follows:
        for view in views:
            receive(birth, view)
    if birth.state["split"]:  # the pickle itself is one of them, the last
        birth.payload = views.pop()
    birth.buffers = views


def wait_filled(birth: Birth) -> int:
    """Wait for the client's word. Gives the bytes that follow over the feed. Without a client nobody wants us."""
    wait(birth)
    got = sockets.receive(birth.socket)
    if not got.data:
        os._exit(ending.UNFED)
    message = wire.decode(got.data)
    if not isinstance(message, messages.Filled):
        raise RuntimeError(f"{message!r} in place of the buffers")
    return message.follows


def receive(birth: Birth, view: memoryview) -> None:
    """Receive a buffer over the feed, in messages of buffers.MESSAGE bytes."""
    at = 0
    while at < len(view):
        wait(birth)
        got = birth.socket.recv_into(view[at : at + buffers_.MESSAGE], 0, sockets.RECEIVE)
        if not got:
            os._exit(ending.UNFED)
        at += got


def wait(birth: Birth) -> None:
    """Wait until there is something on the feed. The end of the feed need not show where the client dies: a fork may
    have a copy of its end (M1)."""
    number = birth.socket.fileno()
    fds.list_readable((number, birth.parent), None)
    if not fds.wait_readable(number, 0):
        os._exit(ending.UNFED)
