"""What is large in a payload or a result: pickled out of band, and each in memory of exactly its size.

A buffer is what the receiver unpickles it from, and it may take all of that (memoryview.obj): so none is a part of
something larger. With a mapping of its own it is also freed when the user lets go of it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from pickle import PickleBuffer
    from typing import Any

SMALLEST = 65_536
"""Bytes from which a buffer travels outside of the pickle. pickle itself calls that much a chunk of its own."""

MOST = 5000
"""Buffers out of band at most, since a process may have 65,530 mappings (vm.max_map_count). Others stay in the pickle."""

MESSAGE = 200_000
"""Bytes in a message where buffers have to go over the feed: the kernel takes 212,960 in one."""


class Pickled:
    """A pickle in parts, and the buffers that it refers to. It is the file that a pickler writes to: what is large comes
    as it is, and is not copied."""

    __slots__ = ("buffers", "out_of_band", "parts")

    def __init__(self, out_of_band: bool = True) -> None:
        self.out_of_band = out_of_band
        self.parts: list[Any] = []
        self.buffers: list[memoryview] = []

    def write(self, part: Any) -> None:
        """Take a part of the pickle. A pickler passes large bytes on as they are, and large PickleBuffers too."""
        raw = getattr(part, "raw", None)
        part = part if raw is None else raw()
        self.parts.append(part if self.out_of_band else bytes(part))

    def take(self, buffer: PickleBuffer) -> bool:
        """Take a buffer out of band; True leaves it in the pickle. This is a pickler's buffer_callback."""
        raw = buffer.raw()
        if raw.nbytes < SMALLEST or len(self.buffers) == MOST:
            return True
        self.buffers.append(raw)
        return False


def run(make: Callable[..., Any], value: object, out_of_band: bool) -> Pickled:
    """Pickle with a pickler of this kind. Raises what that raises."""
    pickled = Pickled(out_of_band)
    if out_of_band:
        make(pickled, 5, buffer_callback=pickled.take).dump(value)
    else:
        make(pickled, 5).dump(value)
    return pickled


def lay_out(sizes: tuple[int, ...], page: int) -> tuple[list[int], int]:
    """Lay out the memfd of a result: a table of the sizes, the buffers, each at the start of a page, then the pickle.
    Gives where each buffer begins, and where the pickle does."""
    at = round_up(8 * len(sizes), page)
    places = []
    for size in sizes:
        places.append(at)
        at += round_up(size, page)
    return places, at


def round_up(size: int, unit: int) -> int:
    """Round up to a multiple of this unit."""
    return -(-size // unit) * unit
