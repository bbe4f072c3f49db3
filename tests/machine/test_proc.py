"""What /proc shows of other processes, and of those that are gone or not to be looked at."""

from __future__ import annotations

import mmap
import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.support import fork
from warmfork._machine import fds, memfds, proc


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL) as process:
        yield process
        process.kill()


@pytest.fixture
def memory() -> Iterator[int]:
    fd = memfds.make_memory("warmfork-test", b"before" + bytes(mmap.PAGESIZE - 6), sealable=True)
    yield fd
    os.close(fd)


def test_the_files_of_another_process_are_listed(other):
    assert proc.list_files(other.pid)[0] == "/dev/null"


def test_a_file_of_another_process_that_can_not_shrink_is_mapped_as_it_changes(memory):
    memfds.seal_size(memory)
    identity, mapped = proc.map_file(os.getpid(), memory, mmap.PAGESIZE)
    with mapped:
        assert identity == fds.identify(memory)
        assert mapped[:6] == b"before"
        os.pwrite(memory, b"after!", 0)
        assert mapped[:6] == b"after!"
        with pytest.raises(TypeError):
            mapped[0] = 1


def test_of_a_file_that_can_shrink_there_is_a_copy_that_stays_as_it_is(memory):
    identity, copy = proc.map_file(os.getpid(), memory, mmap.PAGESIZE)
    with copy:
        assert identity == fds.identify(memory)
        os.ftruncate(memory, 0)
        assert copy[:7] == b"before\0"


def test_a_file_that_is_too_short_is_not_mapped(memory):
    assert proc.map_file(os.getpid(), memory, mmap.PAGESIZE + 1) is None


def test_a_file_that_cannot_be_mapped_is_none(other):
    assert proc.map_file(other.pid, 0, 0) is None


def test_a_pidfd_says_whom_it_names_and_minus_1_when_that_one_is_dead(other):
    pidfd = os.pidfd_open(other.pid)
    try:
        assert proc.read_pidfd(os.getpid(), pidfd) == other.pid
        other.kill()
        other.wait()
        assert proc.read_pidfd(os.getpid(), pidfd) == -1
    finally:
        os.close(pidfd)


def test_what_a_process_has_for_itself_and_what_it_shares_are_together_what_is_resident():
    resident = proc.read_field("/proc/self/status", b"VmRSS:")
    share = proc.read_share(os.getpid())
    assert 0 < share.uss <= share.pss <= resident * 1.1
    assert share.pss <= share.uss + share.shared
    assert 0.9 * resident <= share.uss + share.shared <= 1.1 * resident


def test_memory_that_a_fork_left_shared_is_shared_until_one_writes_to_it(memory):
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
        alone = proc.read_share(pid)
        assert alone.shared > size // 1024 > 2 * alone.uss
        block.seek(0)
        block.write(b"y" * size)  # the copy is ours, and the old pages are now the child's alone
        assert proc.read_share(pid).uss > size // 1024
    finally:
        os.close(writer)
        os.waitpid(pid, 0)
        block.close()


def test_a_process_that_is_gone_shows_nothing(other):
    other.kill()
    other.wait()
    assert proc.list_files(other.pid) is None
    assert proc.map_file(other.pid, 0, 1) is None
    assert proc.read_pidfd(other.pid, 0) is None
    assert proc.read_share(other.pid) is None


def test_a_zombie_shows_nothing(other):
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert not proc.list_files(other.pid)
    assert proc.read_share(other.pid) is None


def test_a_field_that_is_not_there_is_none():
    assert proc.read_field("/proc/self/status", b"NoSuchField:") is None


def test_a_fifo_is_no_file_to_map_and_nobody_waits_for_its_writer(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    fd = os.open(tmp_path / "fifo", os.O_PATH)
    try:
        assert proc.map_file(os.getpid(), fd, 0) is None
    finally:
        os.close(fd)
