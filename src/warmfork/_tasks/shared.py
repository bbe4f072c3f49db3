"""What is shared for reading: it lies in a file that has no name, and is mapped once by each process that was given it.

Its handle is pickled with the place at which its file comes among those that travel beside the pickle; so only what sends
files too can send a handle. What arrives is what was shared, over memory that nobody can write.
"""

from __future__ import annotations

import os
from _struct import iter_unpack
from _thread import _local
from mmap import MAP_PRIVATE, PAGESIZE, PROT_READ, mmap
from weakref import WeakValueDictionary

from warmfork._machine import fds, memfds
from warmfork._words import buffers as buffers_

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, TypeVar

    T = TypeVar("T")


in_use = False
"""Has this process a handle? Until then nothing that it pickles has to be looked at."""


class Travellers(_local):
    """What travels beside the pickle that this thread makes, or reads."""

    leaving: dict[bytes, fds.Fd] | None = None
    """The file of each handle by its token, in order; None: nothing that is pickled now can send a file."""
    arrived: Iterable[int] = ()


_here = Travellers()

mapped: WeakValueDictionary[bytes, mmap] = WeakValueDictionary()
"""What this process has mapped, by token. Nothing here keeps it: it goes with the last that looks into it."""


def collect(pickle: Callable[[], T]) -> tuple[T, tuple[fds.Fd, ...]]:
    """Pickle, and give the files of the shared handles that the pickle has, in the order in which they are to be sent: the
    files and not the handles, for these may be closed before that. Raises what `pickle` raises."""
    if not in_use:
        return pickle(), ()
    found: dict[bytes, fds.Fd] = {}
    before = _here.leaving
    _here.leaving = found
    try:
        return pickle(), tuple(found.values())
    finally:
        _here.leaving = before


def take_place(token: bytes, file: fds.Fd) -> int:
    """Have a handle's file travel beside the pickle that is being made. Gives its place, or -1: nothing can."""
    found = _here.leaving
    if found is None:
        return -1
    found.setdefault(token, file)
    return list(found).index(token)


class Arriving:
    """For a `with` block in which a pickle is read: files that came with it, which are closed after it."""

    def __init__(self, files: list[int]) -> None:
        self.files = files

    def __enter__(self) -> None:
        _here.arrived = self.files

    def __exit__(self, *_: object) -> None:
        _here.arrived = ()
        fds.close_all(self.files)


def attach(token: bytes, place: int, size: int, count: int) -> Any:
    """Give what was shared. It is called by pickle. Raises OSError where it can't be mapped."""
    whole = mapped.get(token)
    if whole is None:
        files = list(_here.arrived)
        if place >= len(files):
            raise OSError(9, "shared memory did not arrive with what refers to it")
        whole = map_whole(files[place], token)
    return read(whole, size, count)


def map_whole(fd: int, token: bytes) -> mmap:
    """Map a file of shared memory. Privately: an older kernel than 6.7 takes a shared mapping for one that may be written,
    and refuses it where the file is sealed; the pages are the same."""
    return mapped.setdefault(token, mmap(fd, os.fstat(fd).st_size, MAP_PRIVATE, PROT_READ))


def read(whole: mmap, size: int, count: int) -> Any:
    """Unpickle what lies there (see spilled.spill), its buffers where they are."""
    from _pickle import loads

    view = memoryview(whole)
    sizes = tuple(one for (one,) in iter_unpack("<q", view[: 8 * count]))
    places, end = buffers_.lay_out(sizes, PAGESIZE)
    return loads(view[end : end + size], buffers=[view[at : at + one] for at, one in zip(places, sizes, strict=True)])


def close_for_writing(fd: int) -> None:
    """Have nobody write to this file any longer. One that stands in for a memfd can't be sealed."""
    from warmfork._machine import memory

    seals = memory.SEAL_SEAL | memory.SEAL_SHRINK | memory.SEAL_GROW | memory.SEAL_WRITE
    if not memfds.no_memfds and not memory.seal(fd, seals):
        raise OSError(22, "this kernel can't make memory read-only")
