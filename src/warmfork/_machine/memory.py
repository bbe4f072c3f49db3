"""Memory: what this process takes, and files that are shared."""

from __future__ import annotations

import os
from _struct import Struct
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, PAGESIZE, PROT_READ, PROT_WRITE, mmap

from warmfork._machine import calls, fds


def get_resident_kib() -> int:
    """Give the resident memory of this process in KiB."""
    return get_sizes_kib()[1]


def get_sizes_kib() -> tuple[int, int]:
    """Give the mapped and the resident memory of this process in KiB."""
    mapped, resident = fds.read_file("/proc/self/statm").split()[:2]
    return int(mapped) * PAGESIZE // 1024, int(resident) * PAGESIZE // 1024


def map_readable(fd: int, size: int) -> mmap:
    """Map a file for reading, shared. Raises OSError or ValueError where it can't be read or is shorter than that."""
    return mmap(fd, size, MAP_SHARED, PROT_READ)


SEAL_SEAL, SEAL_SHRINK, SEAL_GROW, SEAL_WRITE, SEAL_FUTURE_WRITE = 1, 2, 4, 8, 16
"""F_SEAL_... of fcntl(2); Python has the last of them since 3.13 only. It leaves the mappings that there are. The first
forbids further seals."""


def seal(fd: int, seals: int) -> bool:
    """Forbid for ever, and to everybody, what these seals say, or give False: this is no memfd, or the kernel does not
    know them."""
    from fcntl import fcntl

    try:
        fcntl(fd, 1033, seals)  # F_ADD_SEALS, which a Python lacks whose C library was older than Linux 3.17
    except OSError:
        return False
    return True


def map_shared_by(fd: int, size: int) -> tuple[mmap, int]:
    """Map a file for reading and writing, shared. Gives also the number of the fd that the mmap object has made for
    itself, and closes with the mapping (before Python 3.13 there is no way to have it without). To be used while no
    other thread opens files."""
    number = os.dup(fd)
    os.close(number)  # the lowest that is free, which the mmap object gets next
    made = mmap(fd, size, MAP_SHARED, PROT_READ | PROT_WRITE)
    if os.path.sameopenfile(number, fd):
        return made, number
    raise RuntimeError("another thread has opened a file meanwhile")


HUGE_PAGE = 2 << 20
HUGE = 14
"""MADV_HUGEPAGE (asm-generic/mman-common.h): a request, where the kernel is set to "madvise"."""


ALIGN_FROM = 8 * HUGE_PAGE
"""Bytes from which a mapping is made a whole number of huge pages, which has the kernel begin it with one (Linux 6.13)."""


def map_private(size: int, huge: bool = True) -> mmap:
    """Map memory that is this process's own, exactly `size` bytes, in huge pages where it is large and that is wanted:
    filling 100 MB takes 12 ms then, not 38."""
    length = -(-size // HUGE_PAGE) * HUGE_PAGE if huge and size >= ALIGN_FROM else size
    made = mmap(-1, length, MAP_PRIVATE | MAP_ANONYMOUS, PROT_READ | PROT_WRITE)
    if length != size:
        made.resize(size)  # which stays where it is
    if huge and size >= HUGE_PAGE:
        try:
            made.madvise(HUGE)
        except OSError:
            return made  # a kernel without huge pages
    return made


def map_copy(fd: int, size: int, offset: int) -> mmap:
    """Map a part of a file, which is ours to write to: the file does not change. `offset` is a multiple of PAGESIZE."""
    return mmap(fd, size, MAP_PRIVATE, PROT_READ | PROT_WRITE, offset=offset)


FLOCK = Struct("hhqqi4x")
"""struct flock of fcntl(2) with 64-bit offsets: type, whence, start, length, pid."""
F_WRLCK = 1  # asm-generic/fcntl.h


def lock(fd: int) -> bool:
    """Lock this file for this process, or give False: another has it. The kernel takes the lock back when its holder
    dies, or closes any fd on the file; a fork does not inherit it (fcntl(2), F_SETLK)."""
    from fcntl import F_SETLK, fcntl

    try:
        fcntl(fd, F_SETLK, FLOCK.pack(F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except OSError:
        return False
    return True


PUNCH_HOLE, KEEP_SIZE = 2, 1


def punch_hole(fd: int, start: int, size: int) -> None:
    """Give the memory behind a part of a memfd back (fallocate(2)). Whole pages only; elsewhere it reads as zeros. Where
    that can't be done (no _ctypes, a file system that has no holes) it stays, which costs nothing else."""
    try:
        calls.call("fallocate", fd, PUNCH_HOLE | KEEP_SIZE, calls.make_pointer(start), calls.make_pointer(size))
    except (ImportError, OSError):
        return
