"""What is large, in a memfd: a pickle, and the buffers that it refers to. The other side maps it, and copies nothing."""

from __future__ import annotations

import os
from _struct import iter_unpack, pack
from mmap import PAGESIZE

from warmfork._machine import fds, memory
from warmfork._words import buffers as buffers_

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def spill(pickle: bytes, buffers: Sequence[memoryview], name: str) -> int:
    """Give a memfd that holds a pickle and its buffers. Raises OSError where there is no memory."""
    mappings, places, end = buffers_.lay_out(tuple(map(len, buffers)), PAGESIZE)
    fd = fds.make_memory(name)
    try:
        fds.write_all(fd, b"".join([pack("<q", len(buffer)) for buffer in buffers]))
        for buffer, (number, offset) in zip(buffers, places, strict=True):
            fds.write_all(fd, buffer, mappings[number][0] + offset)
        fds.write_all(fd, pickle, end)
        os.ftruncate(fd, end + len(pickle))
    except BaseException:
        os.close(fd)
        raise
    return fd


LARGE = 1 << 20
"""Bytes from which a pickle is mapped too: a copy of fewer is quicker."""


def map_spilled(fd: int, size: int, count: int) -> tuple[bytes | memoryview, list[memoryview]]:
    """Give the pickle, of `size` bytes, and its `count` buffers: ours to write to, and the file stays as it is.

    Raises OSError where there is no address space for it.
    """
    sizes = tuple(one for (one,) in iter_unpack("<q", fds.read_all(fd, 8 * count))) if count else ()
    mappings, places, end = buffers_.lay_out(sizes, PAGESIZE)
    mapped = [memoryview(memory.map_copy(fd, length, at)) for at, length in mappings]
    buffers = [mapped[number][at : at + one] for (number, at), one in zip(places, sizes, strict=True)]
    return os.pread(fd, size, end) if size < LARGE else memoryview(memory.map_copy(fd, size, end)), buffers
