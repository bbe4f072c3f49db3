"""Memory of this process: what it takes, and mappings that are shared."""

from __future__ import annotations

import os
from mmap import MAP_SHARED, PAGESIZE, PROT_READ, PROT_WRITE, mmap


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
