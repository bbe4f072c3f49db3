from __future__ import annotations

import mmap
import os

import pytest

from tests.support import run_forked
from warmfork._machine import memfds, memory

MIB = 1024


def test_resident_memory_grows_with_what_is_written():
    def grow() -> tuple[int, int]:
        before = memory.get_resident_kib()
        with mmap.mmap(-1, 64 << 20) as block:
            for page in range(0, len(block), mmap.PAGESIZE):
                block[page] = 1
            return before, memory.get_resident_kib() - before

    before, more = run_forked(grow)
    assert before > 1 * MIB
    assert 60 * MIB < more < 80 * MIB


def test_a_shared_mapping_is_seen_by_both_and_outlives_its_fd_and_its_writer():
    """M5: the board survives its template."""
    fd = memfds.make_memory("warmfork-test", bytes(4096))
    ours, _ = memory.map_shared_by(fd, 4096)

    def write() -> None:
        theirs, _ = memory.map_shared_by(fd, 4096)
        theirs[100:104] = b"told"
        os.kill(os.getpid(), 9)

    with pytest.raises(AssertionError, match="ended its process"):
        run_forked(write)
    os.close(fd)
    assert ours[100:104] == b"told"
    ours.close()
