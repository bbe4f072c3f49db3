"""What is large, in a memfd: a pickle, and the buffers that it refers to. The other side maps it, and copies nothing."""

from __future__ import annotations

import os
from _struct import iter_unpack, pack
from mmap import PAGESIZE

from warmfork._machine import memfds, memory, state
from warmfork._words import buffers as buffers_

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

EFBIG = 27


def spill(parts: Sequence[Any], buffers: Sequence[memoryview], what: str, sealable: bool = False) -> int:
    """Give a memfd that holds a pickle, in parts, and its buffers. `what` it is: "a result". Raises OSError where there
    is no memory."""
    sizes = tuple(map(len, buffers))
    places, end = buffers_.lay_out(sizes, PAGESIZE)
    fd = memfds.make_memory(f"warmfork-{what.rpartition(' ')[2]}", sealable=sealable)
    try:
        with state.LiftedFileLimit():
            memfds.write_all(fd, b"".join([pack("<q", size) for size in sizes]))
            for buffer, at in zip(buffers, places, strict=True):
                memfds.write_all(fd, buffer, at)
            for part in parts:
                memfds.write_all(fd, part, end)
                end += len(part)
            os.ftruncate(fd, end)
    except OSError as error:
        os.close(fd)
        limit = " (a limit of the size of files, RLIMIT_FSIZE, ulimit -f)" if error.errno == EFBIG else ""
        size = sum(sizes) + sum(map(len, parts))
        raise OSError(error.errno, f"no room for {what} of {size:,} bytes: {error.strerror}{limit}") from error
    except BaseException:
        os.close(fd)
        raise
    return fd


def map_spilled(fd: int, size: int, count: int) -> tuple[bytes | memoryview, list[memoryview]]:
    """Give the pickle, of `size` bytes, and its `count` buffers: ours to write to, and the file stays as it is.

    Raises OSError where there is no address space for it. The file is whole, and nobody who could cut it is left.
    """
    if not count:
        return memoryview(memory.map_copy(fd, size, 0)), []
    sizes = tuple(one for (one,) in iter_unpack("<q", memfds.read_all(fd, 8 * count)))
    places, end = buffers_.lay_out(sizes, PAGESIZE)
    buffers = [memoryview(memory.map_copy(fd, one, at)) for at, one in zip(places, sizes, strict=True)]
    return os.pread(fd, size, end) if size <= PAGESIZE else memoryview(memory.map_copy(fd, size, end)), buffers
