"""What a child returned, where it is large: mapped from the memfd that the child has left, and not copied."""

from __future__ import annotations

import os
from _struct import iter_unpack
from mmap import PAGESIZE

from warmfork._machine import memfds, memory
from warmfork._words import buffers as buffers_


def map_result(fd: int, size: int, count: int) -> tuple[bytes | memoryview, list[memoryview]]:
    """Give the pickle, of `size` bytes, and its `count` buffers: ours to write to, and the file stays as it is.

    Raises OSError where there is no address space for it. The file is whole, and nobody who could cut it is left.
    """
    if not count:
        return memoryview(memory.map_copy(fd, size, 0)), []
    table = memfds.read_all(fd, 8 * count)
    sizes = tuple(one for (one,) in iter_unpack("<q", table))
    places, end = buffers_.lay_out(sizes, PAGESIZE)
    buffers = [memoryview(memory.map_copy(fd, one, at)) for at, one in zip(places, sizes, strict=True)]
    return os.pread(fd, size, end) if size <= PAGESIZE else memoryview(memory.map_copy(fd, size, end)), buffers
