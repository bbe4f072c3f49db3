"""What a process has of its memory for itself, and what it shares."""

from __future__ import annotations

import mmap
import os
import subprocess

from tests.support import fork
from warmfork._machine.memory import get_resident_kib
from warmfork.cli import share


def test_what_a_process_has_for_itself_and_what_it_shares_are_together_what_is_resident():
    resident = get_resident_kib()
    mine = share.read_share(os.getpid())
    assert 0 < mine.uss <= mine.pss <= resident * 1.1
    assert mine.pss <= mine.uss + mine.shared
    assert 0.9 * resident <= mine.uss + mine.shared <= 1.1 * resident


def test_memory_that_a_fork_left_shared_is_shared_until_one_writes_to_it():
    size = 32 << 20
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE)
    block.write(b"x" * size)
    reader, writer = os.pipe()
    pid = fork()
    if pid == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    try:
        alone = share.read_share(pid)
        assert alone.shared > size // 1024 > 2 * alone.uss
        block.seek(0)
        block.write(b"y" * size)  # the copy is ours, and the old pages are now the child's alone
        assert share.read_share(pid).uss > size // 1024
    finally:
        os.close(writer)
        os.waitpid(pid, 0)
        block.close()


def test_a_process_that_is_a_zombie_or_gone_shows_nothing():
    with subprocess.Popen(["sleep", "1000"]) as other:
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        assert share.read_share(other.pid) is None
    assert share.read_share(other.pid) is None
