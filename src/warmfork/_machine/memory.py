"""Memory: what this process takes, mappings that are shared, where the stack of a process begins."""

from __future__ import annotations

import os
from mmap import MAP_SHARED, PAGESIZE, PROT_READ, PROT_WRITE, mmap

from warmfork._machine import calls


def get_resident_kib() -> int:
    """Give the resident memory of this process in KiB."""
    fd = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return int(os.read(fd, 128).split()[1]) * PAGESIZE // 1024
    finally:
        os.close(fd)


def map_shared(fd: int, size: int) -> mmap:
    """Map a file for reading and writing, shared."""
    return mmap(fd, size, MAP_SHARED, PROT_READ | PROT_WRITE)


def read_start_stack(pid: int) -> int:
    """Read where the process's stack began, which is another place after each exec. 0 where it can't be told."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return int(os.read(fd, 4096).rpartition(b")")[2].split()[25])
    except (OSError, IndexError):
        return 0
    finally:
        os.close(fd)


PUNCH_HOLE, KEEP_SIZE = 2, 1


def punch_hole(fd: int, start: int, size: int) -> None:
    """Give the memory behind a part of a memfd back (fallocate(2)). Whole pages only; elsewhere it reads as zeros."""
    calls.call("fallocate", fd, PUNCH_HOLE | KEEP_SIZE, calls.make_pointer(start), calls.make_pointer(size))
