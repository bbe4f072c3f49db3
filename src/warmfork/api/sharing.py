"""share_readonly(): a large buffer is put once where all processes can map it, and travels as a handle of a few bytes."""

from __future__ import annotations

import os

from warmfork._machine import platform, spilled
from warmfork._machine.fds import Fd
from warmfork._tasks import shared

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pickle import PickleBuffer
    from typing import Any


def share_readonly(value: Any) -> Shared:
    """Put a buffer, or an object with buffers (a numpy array, a DataFrame), where other processes can map it: once, however
    many tasks are given it.

    Give the result to Executor.submit() or map(), to an initializer, or to Template.start(), also inside of other arguments.
    What the function gets is a read-only memoryview, or the object over read-only memory. Each process maps it once.

    >>> import warmfork
    >>> shared = warmfork.share_readonly(bytes(1_000_000))
    >>> with warmfork.Executor(1) as executor:
    ...     executor.submit(len, shared).result()
    1000000

    The memory is freed when the last holder lets go: this object, and what was given out of it. Raises TypeError for what
    has no buffers, and OSError where there is no memory.
    """
    platform.check()
    parts, buffers = take_apart(value)
    handle = Fd(spilled.spill(parts, buffers, "a shared buffer", sealable=True))
    shared.close_for_writing(handle.fileno())
    return Shared(handle, sum(map(len, parts)), len(buffers), sum(map(len, buffers)))


def take_apart(value: Any) -> tuple[list[bytes], list[memoryview]]:
    """Pickle a value, all its buffers aside. Raises TypeError, and what pickle raises."""
    from pickle import PickleBuffer, dumps

    buffers: list[memoryview] = []

    def take(buffer: PickleBuffer) -> None:
        buffers.append(buffer.raw())

    if isinstance(value, Shared):
        raise TypeError("this is shared already")
    plain = is_plain(value)
    if plain and not memoryview(value).contiguous:
        raise TypeError(
            "share_readonly() needs memory in one piece, and this memoryview has steps: bytes(...) of it has not"
        )
    data = dumps(PickleBuffer(value) if plain else value, 5, buffer_callback=take)
    if not buffers:
        raise TypeError(
            "share_readonly() is for buffers (bytes, array.array, memoryview) and what has some (numpy, pandas, Arrow): a "
            f"{type(value).__name__} has none, or none in one piece"
        )
    return [data], buffers


def is_plain(value: object) -> bool:
    """Is this bytes, or another buffer that says no more of itself than its bytes? Pickle would copy those."""
    from array import array
    from mmap import mmap

    return isinstance(value, (bytes, bytearray, memoryview, array, mmap))


class Shared:
    """What share_readonly() gives: a handle on memory that is shared for reading. `nbytes` is what its buffers take."""

    def __init__(self, memory: Any, size: int, count: int, nbytes: int) -> None:  # Any: not for users to make
        self.nbytes: int = nbytes
        self._memory: Fd = memory
        self._layout = size, count
        self._token = os.urandom(16)
        shared.in_use = True

    def fileno(self) -> int:
        """Give the number of the file that has it. Raises ValueError after close()."""
        if not self._memory:
            raise ValueError(f"{self!r} was closed")
        return self._memory.fileno()

    def __repr__(self) -> str:
        return f"<Shared {self.nbytes:,} bytes{'' if self._memory else ', closed'}>"

    @property
    def value(self) -> Any:
        """What the others get, in this process: over the same memory, read-only."""
        whole = shared.mapped.get(self._token) or shared.map_whole(self.fileno(), self._token)
        return shared.read(whole, *self._layout)

    def close(self) -> None:
        """Let go of it here. What was given out of it stays, and so does what tasks have that wait with it."""
        self._memory = Fd(-1)

    def __reduce__(self) -> Any:
        self.fileno()
        place = shared.take_place(self._token, self._memory)
        if place < 0:
            raise TypeError(
                "what share_readonly() gives can't be pickled by itself: give it to Executor.submit(), to map(), to an "
                "initializer, or to Template.start(), which send the memory along"
            )
        return shared.attach, (self._token, place, *self._layout)


share_readonly.__module__ = Shared.__module__ = "warmfork"
