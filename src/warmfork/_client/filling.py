"""Filling a child's memory with the large parts of its payload, which no socket and no file need carry.

The child says where it has made room (Room), the client writes there with process_vm_writev, and says so (Filled). 100
MB take 12 ms so; over the feed, which is the way where the kernel forbids the other, 17 to 25; through a memfd 65.
Two threads would take 7 on an idle machine, and are not worth a fork that finds this process with two.
"""

from __future__ import annotations

from _struct import iter_unpack
from time import monotonic

from warmfork._client.feeding import measure
from warmfork._machine import calls, fds, sockets, transfer
from warmfork._words import buffers as buffers_
from warmfork._words import messages, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from warmfork._client.link import Link

    Buffer = tuple[Any, ...]
    """One buffer, in the parts that it has here."""

BUFFERS_TIMEOUT = 60.0
"""Seconds for a child to make room. It takes a millisecond; a machine that swaps may need many."""

is_refused = False
"""Does the kernel forbid writing to a child? Learnt at the first try, for good."""


def fill(child: Link, buffers: list[Buffer]) -> None:
    """Fill the memory of a child that was fed. Returns also where it has told why it can't be filled.

    Raises ConnectionError where it is dead, or leaves, and TimeoutError where it takes nothing: it is stopped by
    somebody, or swapped out. Then nothing of the user's has run in it.
    """
    addresses = wait_buffers_at(child)
    if addresses is None:
        return
    follows = 0
    try:
        if not is_refused:
            transfer.write(child.pid, child.fileno(), list_stretches(buffers, addresses))
    except ProcessLookupError as error:
        raise BrokenPipeError(EPIPE, "the child is dead") from error
    except (OSError, ImportError) as error:
        refuse(error)
    if is_refused:
        follows = sum(map(measure, buffers))
    feed = child.feed
    if feed is None:
        raise BrokenPipeError(EPIPE, "the child has closed the socket on which it is sent its call")
    sockets.send_within(feed, wire.encode(messages.Filled(follows)), timeout=BUFFERS_TIMEOUT)
    if follows:
        send(feed, buffers)


EPIPE = 32


def wait_buffers_at(child: Link) -> list[int] | None:
    """Wait until the child says where its room is. None where it has told why it has none. Raises as fill() does."""
    deadline = monotonic() + BUFFERS_TIMEOUT
    while True:
        dead = fds.wait_readable(child.fileno(), 0)
        room = child.read_buffers_at()
        if room is not None:
            return [address for (address,) in iter_unpack("<q", room)]
        if child.words:
            return None
        if dead or child.feed is None or child.is_birth_over():
            raise BrokenPipeError(EPIPE, "the child is dead")
        if not fds.list_readable((child.feed.fileno(), child.fileno()), deadline - monotonic()):
            raise TimeoutError(f"the child has taken nothing for {BUFFERS_TIMEOUT} s")


def list_stretches(buffers: list[Buffer], addresses: list[int]) -> list[transfer.Stretch]:
    """List what is to be copied: from where, to where, how many bytes."""
    found = []
    for buffer, there in zip(buffers, addresses, strict=True):
        for part in buffer:
            if len(part):
                found.append((calls.get_address(part), there, len(part)))
                there += len(part)
    return found


def refuse(error: Exception) -> None:
    """The kernel does not let us write to a child: never try again, and say so once."""
    global is_refused
    if not is_refused:
        is_refused = True
        from logging import getLogger

        getLogger("warmfork").info(
            "large arguments are sent to children through their socket, which is slower: %s", str(error)
        )


def send(feed: sockets.socket, buffers: list[Buffer]) -> None:
    """Send the buffers over the feed. Messages end where a buffer ends, and are as large as may be otherwise."""
    for buffer in buffers:
        whole = memoryview(buffer[0] if len(buffer) == 1 else b"".join(buffer))
        for at in range(0, len(whole), buffers_.MESSAGE):
            sockets.send_within(feed, whole[at : at + buffers_.MESSAGE], timeout=BUFFERS_TIMEOUT)
