"""What is large in a payload or a result: pickled out of band, and laid out in memory by a rule that both sides know.

A large buffer has a mapping of its own, so that it is freed when the user lets go of it; the small ones share one.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from pickle import PickleBuffer
    from typing import Any

SMALLEST = 65_536
"""Bytes from which a buffer travels outside of the pickle. pickle itself calls that much a chunk of its own."""

LARGE = 1 << 20
"""Bytes from which a buffer has a mapping of its own."""

MOST_MAPPINGS = 1000
"""Mappings for large buffers at most: a process may have 65,530 of them (vm.max_map_count). The rest shares one."""

MESSAGE = 200_000
"""Bytes in a message where buffers have to go over the feed: the kernel takes 212,960 in one."""

ALIGNMENT = 64
"""A cache line, and what vector instructions want."""


class Pickled:
    """A pickle in parts, and the buffers that it refers to. It is the file that a pickler writes to: what is large comes
    as it is, and is not copied."""

    __slots__ = ("buffers", "parts", "write")

    def __init__(self) -> None:
        self.parts: list[Any] = []
        self.buffers: list[memoryview] = []
        self.write: Callable[[Any], None] = self.parts.append

    def take(self, buffer: PickleBuffer) -> bool:
        """Take a buffer out of band; True leaves it in the pickle. This is a pickler's buffer_callback."""
        raw = buffer.raw()
        if raw.nbytes < SMALLEST:
            return True
        self.buffers.append(raw)
        return False


def run(make: Callable[..., Any], value: object, out_of_band: bool) -> Pickled:
    """Pickle with a pickler of this kind. Raises what that raises."""
    pickled = Pickled()
    if out_of_band:
        make(pickled, 5, buffer_callback=pickled.take).dump(value)
    else:
        pickled.write = lambda part: pickled.parts.append(flatten(part))
        make(pickled, 5).dump(value)
    return pickled


def flatten(part: Any) -> bytes:
    """Give what a pickler writes as bytes: it passes large bytes on as they are, and large PickleBuffers too."""
    raw = getattr(part, "raw", None)
    return bytes(part if raw is None else raw())


def place(sizes: tuple[int, ...]) -> tuple[list[int], list[tuple[int, int]]]:
    """Give the sizes of the mappings, and for each buffer its mapping and its offset there."""
    mappings: list[int] = []
    places: list[tuple[int, int]] = []
    shared, used = -1, 0
    for size in sizes:
        if size >= LARGE and len(mappings) < MOST_MAPPINGS:
            places.append((len(mappings), 0))
            mappings.append(size)
            continue
        if shared < 0:
            shared = len(mappings)
            mappings.append(0)
        places.append((shared, used))
        used += round_up(size, ALIGNMENT)
        mappings[shared] = used
    return mappings, places


def lay_out(sizes: tuple[int, ...], page: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]], int]:
    """Lay out the memfd of a result: a table of the sizes, the mappings, each at the start of a page, then the pickle.

    Gives offset and length of each mapping, the places of the buffers as place() does, and where the pickle begins.
    """
    lengths, places = place(sizes)
    at = round_up(8 * len(sizes), page)
    mappings = []
    for length in lengths:
        mappings.append((at, length))
        at += round_up(length, page)
    return mappings, places, at


def round_up(size: int, unit: int) -> int:
    """Round up to a multiple of this unit."""
    return -(-size // unit) * unit
