"""Feeding a child: its state, its fds and its payload, straight from the client, past the template."""

from __future__ import annotations

import os
import sys
from posix import getpid

from warmfork._machine import fds, memfds, pids, sockets, state
from warmfork._machine import streams as streams_
from warmfork._words import feed as feed_
from warmfork._words.feed import HAS_CWD, HAS_DOOR, INLINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any


SPLIT_FROM = 1 << 19
"""Bytes of a pickle that are worth a word from the child first; fewer are there sooner through a memfd."""


class Payload:
    """What the entry is given: bytes, fds that they refer to, and what must live until they are unpickled (row 68).

    `parts` are the bytes, `buffers` what they refer to out of band. Where the bytes are many they are a buffer too,
    the last of them: then `split` is true, and nothing of them goes into the feed's message.
    """

    __slots__ = ("buffers", "data", "fds", "keep", "split")

    def __init__(
        self,
        parts: list[Any],
        passed: Iterable[int],
        keep: object,
        buffers: Sequence[memoryview] = (),
        out_of_band: bool = True,
    ) -> None:
        self.fds, self.keep = list(passed), keep
        self.buffers: list[tuple[Any, ...]] = [(buffer,) for buffer in buffers]
        self.split = out_of_band and sum(map(len, parts)) > (INLINE if self.buffers else SPLIT_FROM)
        if self.split:
            self.buffers.append(tuple(parts))
            self.data: bytes | memoryview = b""
        else:
            self.data = parts[0] if len(parts) == 1 else b"".join(parts)


def measure(buffer: tuple[Any, ...]) -> int:
    """Give the bytes of a buffer. Each part is flat, so its length is its size."""
    return sum(map(len, buffer))


class StartRequest:
    """What is to be started: entry, name, policy, and what differs from this process's own state."""

    __slots__ = ("cwd", "entry", "environment", "here", "kill", "name", "own_path", "replies", "streams")

    def __init__(
        self,
        entry: str,
        name: str,
        kill: bool,
        replies: bool = False,
        environment: dict[bytes, bytes] | None = None,
        cwd: int = -1,
        here: str = "",
    ) -> None:
        self.entry = entry
        self.name = name
        self.kill = kill
        self.replies = replies  # the child sends a result over its feed
        self.environment = environment
        self.cwd = cwd  # an O_PATH fd
        self.here = here  # what "" in sys.path stands for; the working directory where it is ""
        self.streams = (-1, -1, -1)  # fds for its 0, 1 and 2; -1: /dev/null, and this process's own 1 and 2
        self.own_path = False  # of another interpreter: sys.path is its template's


def take_state(born: state.Baseline, order: StartRequest) -> dict[str, Any]:
    """Take this process's state as the child is to have it. Done while the template forks."""
    said = state.take(born, order.here)
    if order.environment is not None:
        said["environment"] = order.environment
    if order.own_path:
        said.pop("sys_path", None)
    said["entry"] = order.entry
    said["name"] = order.name
    said["kill"] = order.kill
    if "multiprocessing.connection" in sys.modules:  # without it there is no Manager
        said["key"] = bytes(sys.modules["multiprocessing.process"].current_process().authkey)
    return said


def feed(
    socket: sockets.socket | None,
    born: state.Baseline,
    order: StartRequest,
    said: dict[str, Any],
    payload: Payload,
    door: int,
) -> None:
    """Send all that the child is to be. Raises OSError."""
    if socket is None:
        raise BrokenPipeError("the child has no socket")
    is_own = order.cwd < 0 and state.is_elsewhere(born)
    with fds.Fd(os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) if is_own else -1) as opened:
        folder = opened.fileno() if is_own else order.cwd
        layout = (HAS_DOOR if door >= 0 else 0) | (HAS_CWD if folder >= 0 else 0)
        if payload.buffers:
            said["buffers"] = tuple(map(measure, payload.buffers))
            said["split"] = payload.split
        first = [get_own_pidfd(), *((door,) if door >= 0 else ())]
        last = [*((folder,) if folder >= 0 else ()), *payload.fds]
        streams = {number: number for number in streams_.list_open()}
        streams.update((number, given) for number, given in enumerate(order.streams) if given >= 0)
        layout |= sum(feed_.STREAM_BITS[number] for number in streams)
        send(socket, said, layout, [*first, *(streams[number] for number in sorted(streams)), *last], payload.data)


def send(
    socket: sockets.socket, said: dict[str, Any], layout: int, passed: list[int], data: bytes | memoryview
) -> None:
    """Send the feed, in as many messages as its fds need: one for each 252 (row 39)."""
    said["fds"] = layout
    follows = state.is_file_limited()
    message, spilled = feed_.join(said, data, len(passed), follows)
    with fds.Fd(memfds.make_memory("warmfork-feed", spilled) if spilled and not follows else -1) as memory:
        if memory:
            passed = [memory.fileno(), *passed]
        sockets.send_within(socket, message, passed[: sockets.MOST_FDS])
        for start in range(sockets.MOST_FDS, len(passed), sockets.MOST_FDS):
            sockets.send_within(socket, feed_.MORE, passed[start : start + sockets.MOST_FDS])
        if follows:
            for start in range(0, len(spilled), feed_.PIECE):
                sockets.send_within(socket, spilled[start : start + feed_.PIECE])


_own: tuple[int, int, tuple[int, int]] = (0, -1, (0, 0))


def get_own_pidfd() -> int:
    """Give a pidfd on this process: what its children watch as their parent. Opened once."""
    global _own
    pid, fd, identity = _own
    if pid != getpid() or not fds.is_still(fd, identity):  # the program may have closed all its fds
        fd = state.move_high(pids.open_pidfd(getpid()))
        _own = getpid(), fd, fds.identify(fd)
    return fd
