"""Huge pages: blocks of the template's heaps, each collapsed to one page, so that fork and exit handle one entry for 512.

Fork and exit of a process take 23 us for each MB in pages of 4 KiB (500 MB: 28 ms) and next to nothing in pages of 2 MiB
(2 ms). MADV_COLLAPSE (Linux 6.1) copies a block into one, 0.5 to 2 ms each. Sharing stays: where a child writes, one
page of 4 KiB is copied. A child that lives while its template's block is collapsed keeps the old pages, so it is done
where none lives, when the template is idle; a block is looked at just before.

No MADV_HUGEPAGE before it: that would split the mappings that are not collapsed whole.
"""

from __future__ import annotations

import os
from mmap import PAGESIZE

from warmfork._machine import calls

COLLAPSE = 25
"""MADV_COLLAPSE of asm-generic/mman-common.h."""

SIZE = "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"

LARGEST_SIZE = 32 << 20
"""Bytes of a block at most: with base pages of 64 KiB (some ARM kernels) it is 512 MiB, too much to copy by the way."""

DENSE = 0.5
"""Share of a block's pages that must be there: collapsing fills the others with zeros."""

TRIALS = 3
"""Blocks that must have failed, and none succeeded, until it is said that huge pages can't be had."""

NOT_PRESENT = bytes(range(128))
"""Highest bytes of those pagemap entries whose page is not there (bit 63)."""


class Blocks:
    """What is still to be collapsed: whole blocks of the heaps."""

    def __init__(self, addresses: list[int], size: int) -> None:
        self.addresses = addresses
        self.again: list[int] = []  # those that failed once: a child that dies at that moment still counts as a user
        self.size = size
        self.collapsed = 0
        self.failed = 0

    def __bool__(self) -> bool:
        return bool(self.addresses or self.again)

    def collapse_one(self) -> None:
        """Collapse one block that is worth it. One that can't be (no free huge page, memory that is pinned or gone) is
        tried once more after the others, and then stays as it is. Raises OSError where /proc does not tell."""
        first = bool(self.addresses)
        address = (self.addresses or self.again).pop()
        if not is_dense(address, self.size):
            return
        if calls.prepare("madvise", calls.make_pointer(address), calls.make_pointer(self.size), COLLAPSE)() == 0:
            self.collapsed += 1
            return
        self.failed += 1
        if first:
            self.again.append(address)

    def is_in_vain(self) -> bool:
        """Have some failed, and none succeeded?"""
        return self.failed >= TRIALS and not self.collapsed


def find_blocks() -> Blocks:
    """Find the blocks: each in one private, anonymous mapping. The first to be collapsed are the first in memory, since
    those that have served for longest are touched most. Raises what FAILURES names."""
    with open(SIZE, "rb") as file:
        size = int(file.read())
    if size > LARGEST_SIZE:
        raise ValueError(f"a huge page has {size >> 20} MiB here")
    found: list[int] = []
    for start, end in list_heaps():
        found += range((start + size - 1) // size * size, end // size * size - size + 1, size)
    return Blocks(found[::-1], size)


def collapse_all() -> list[str]:
    """Collapse all of them now. Gives what is to be logged."""
    try:
        blocks = find_blocks()
        while blocks:
            blocks.collapse_one()
    except FAILURES as error:
        return [f"without huge pages: {error}"]
    return [f"without huge pages: {REFUSED}"] if blocks.is_in_vain() else []


FAILURES = (OSError, ImportError, AttributeError, ValueError)
"""What is raised where there are none: no _ctypes, no transparent huge pages in this kernel, no pagemap."""

REFUSED = "madvise(MADV_COLLAPSE) fails (Linux 6.1 has it; a limit may forbid it)"


def is_dense(address: int, size: int) -> bool:
    """Are most pages of this block there? Raises OSError."""
    pagemap = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        entries = os.pread(pagemap, size // PAGESIZE * 8, address // PAGESIZE * 8)
    finally:
        os.close(pagemap)
    return len(entries[7::8].translate(None, NOT_PRESENT)) * PAGESIZE >= size * DENSE


def list_heaps() -> list[tuple[int, int]]:
    """List the private, anonymous, writable mappings of this process: its heaps, not its stack."""
    found = []
    with open("/proc/self/maps", "rb") as maps:
        for line in maps:
            span, rights, _, _, inode, *name = line.split()
            if rights == b"rw-p" and inode == b"0" and (not name or name[0].startswith((b"[heap]", b"[anon:"))):
                start, end = (int(part, 16) for part in span.split(b"-"))
                found.append((start, end))
    return found
