"""Which pages a birth touches: recorded once by a throw-away child, given to each spare before it is needed.

A page fault costs a child 2 us and more, and a birth has hundreds, the same ones in every child of a template. A spare
has time for them: MADV_POPULATE_WRITE (Linux 5.14) copies the pages that a birth writes, MADV_POPULATE_READ maps the
text that it reads. Only those: populating everything takes 13 ms and shares nothing any longer. No user code runs.
"""

from __future__ import annotations

import os
from mmap import PAGESIZE

from warmfork._machine import calls, fds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

POPULATE_READ, POPULATE_WRITE = 22, 23
PRESENT, FILE_OR_SHARED, EXCLUSIVE = 1 << 63, 1 << 61, 1 << 56
"""Bits of /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst); they are shown without privilege."""

LARGEST = 256 << 20
"""Bytes of mappings that are looked at: reading the map of more takes longer than it is worth."""

DEADLINE = 5.0

Range = tuple[int, int, int]
"""Address, bytes, advice."""


def learn(rehearse: Callable[[], object]) -> list[Callable[[], int]]:
    """Give the calls that give a spare the pages of a birth. Where that can't be had, spares do without."""
    try:
        return prepare(record(rehearse))
    except (OSError, ImportError, AttributeError, ValueError):
        return []  # no pagemap, no _ctypes, no process to be had


def record(rehearse: Callable[[], object]) -> list[Range]:
    """Have a throw-away child rehearse a birth, and give what it touched. Nothing where the kernel does not tell."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            rehearse()
            os.write(writer, b"\n".join(b"%d %d %d" % touched for touched in list_touched())[:60_000])
        finally:
            os._exit(0)
    os.close(writer)
    try:
        if not fds.wait_readable(reader, DEADLINE):
            os.kill(pid, 9)
        data = os.read(reader, 65_536)
    finally:
        os.close(reader)
        os.waitpid(pid, 0)
    return [(a, b, c) for a, b, c in (map(int, line.split()) for line in data.splitlines() if line.count(b" ") == 2)]


def list_touched() -> list[Range]:
    """List what this process has for itself of its private memory, and what it has mapped of its text."""
    found: list[Range] = []
    pagemap = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with open("/proc/self/maps", "rb") as maps:
            lines = maps.read().splitlines()
        for line in lines:
            span, rights, _, device = line.split()[:4]
            start, end = (int(part, 16) for part in span.split(b"-"))
            if end - start > LARGEST or not rights.endswith(b"p") or line.endswith((b"[vvar]", b"[vsyscall]")):
                continue
            if rights.startswith(b"rw"):
                found += list_ranges(pagemap, start, end, EXCLUSIVE, POPULATE_WRITE)
            elif rights.startswith(b"r") and device != b"00:00":
                found += list_ranges(pagemap, start, end, FILE_OR_SHARED, POPULATE_READ)
    finally:
        os.close(pagemap)
    return found


def list_ranges(pagemap: int, start: int, end: int, bit: int, advice: int) -> list[Range]:
    """List the runs of pages that are present and have this bit."""
    entries = memoryview(os.pread(pagemap, (end - start) // PAGESIZE * 8, start // PAGESIZE * 8)).cast("Q")
    wanted = PRESENT | bit
    found: list[Range] = []
    begun = -1
    for number, entry in enumerate(entries):
        if entry & wanted == wanted:
            if begun < 0:
                begun = number
        elif begun >= 0:
            found.append((start + begun * PAGESIZE, (number - begun) * PAGESIZE, advice))
            begun = -1
    if begun >= 0:
        found.append((start + begun * PAGESIZE, (len(entries) - begun) * PAGESIZE, advice))
    return found


def prepare(ranges: list[Range]) -> list[Callable[[], int]]:
    """Make the calls that give a process these pages. What a spare lacks of them (a mapping that is gone, an older
    kernel) fails there, and costs it nothing but the fault that it had anyway."""
    return [
        calls.prepare("madvise", calls.make_pointer(a), calls.make_pointer(size), advice) for a, size, advice in ranges
    ]
