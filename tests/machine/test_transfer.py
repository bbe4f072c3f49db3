"""Copying into another process's memory, as the kernel does it."""

from __future__ import annotations

import errno
import mmap
import os
import select
from collections.abc import Callable

import pytest

from tests.support import fork
from warmfork._machine import calls, memory, transfer
from warmfork._machine.transfer import MOST_AT_ONCE, MOST_STRETCHES, cut, skip


def read_to_end(made: mmap.mmap, size: int, write: Callable[[int, int], None]) -> bytes:
    """What the child finds in its `made` after `write` has written there."""
    reader, writer = os.pipe()
    gate, opener = os.pipe()
    pid = fork()
    if pid == 0:
        try:
            os.close(opener)
            os.close(reader)
            os.read(gate, 1)
            view = memoryview(made)[:size]
            while view:
                view = view[os.write(writer, view) :]
        finally:
            os._exit(0)
    os.close(writer)
    os.close(gate)
    pidfd = os.pidfd_open(pid)
    try:
        write(pid, pidfd)
        os.close(opener)
        with open(reader, "rb") as file:
            return file.read()
    finally:
        os.close(pidfd)
        os.waitpid(pid, 0)


def test_what_is_written_is_there_and_only_there():
    size = 3 * MOST_AT_ONCE + 12_345
    made = memory.map_private(size)
    data = os.urandom(size)
    there = calls.get_address(made)
    got = read_to_end(
        made, size, lambda pid, pidfd: transfer.write(pid, pidfd, [(calls.get_address(data), there, size)])
    )
    assert got == data
    assert made[:size] == bytes(size), "it is the child's memory that was written to, not ours"


def test_more_stretches_than_the_kernel_takes_at_once_arrive():
    count = 3 * MOST_STRETCHES + 7
    made = memory.map_private(count * 64)
    data = [os.urandom(64) for _ in range(count)]
    there = calls.get_address(made)
    stretches = [(calls.get_address(one), there + 64 * n, 64) for n, one in enumerate(data)]
    assert read_to_end(made, count * 64, lambda pid, pidfd: transfer.write(pid, pidfd, stretches)) == b"".join(data)


def test_a_dead_process_is_said_to_be_dead():
    pid = fork()
    if pid == 0:
        os._exit(0)
    pidfd = os.pidfd_open(pid)
    try:
        select.select([pidfd], [], [], 10)
        with pytest.raises(ProcessLookupError):
            transfer.write(pid, pidfd, [(calls.get_address(b"x" * 64), 4096, 64)])
    finally:
        os.close(pidfd)
        os.waitpid(pid, 0)


def test_a_pid_that_means_another_process_here_is_not_written_to():
    """As in another pid namespace. Here it would be ourselves."""
    made = memory.map_private(4096)
    here = calls.get_address(made)

    def write(pid: int, pidfd: int) -> None:
        with pytest.raises(PermissionError, match=f"has not the pid {os.getpid()} here"):
            transfer.write(os.getpid(), pidfd, [(calls.get_address(b"x" * 64), here, 64)])

    assert read_to_end(made, 64, write) == made[:64] == bytes(64)


def test_memory_that_is_not_there_is_an_error_with_its_number():
    made = memory.map_private(4096)

    def write(pid: int, pidfd: int) -> None:
        with pytest.raises(OSError) as caught:
            transfer.write(pid, pidfd, [(calls.get_address(b"x" * 64), 4096, 64)])
        assert caught.value.errno == errno.EFAULT and caught.value.filename == "process_vm_writev"

    read_to_end(made, 1, write)


def test_stretches_are_cut_to_what_one_call_takes():
    batches = list(cut([(0, 1 << 40, MOST_AT_ONCE * 2 + 5), (1 << 30, 1 << 50, 10)]))
    assert [sum(size for *_, size in batch) for batch in batches] == [MOST_AT_ONCE, MOST_AT_ONCE, 15]
    assert batches[2] == [(2 * MOST_AT_ONCE, (1 << 40) + 2 * MOST_AT_ONCE, 5), (1 << 30, 1 << 50, 10)]
    assert list(cut([])) == []


def test_what_is_done_is_skipped():
    stretches = [(0, 100, 10), (50, 200, 10)]
    assert skip(stretches, 0) == stretches
    assert skip(stretches, 4) == [(4, 104, 6), (50, 200, 10)]
    assert skip(stretches, 10) == [(50, 200, 10)]
    assert skip(stretches, 15) == [(55, 205, 5)]
    assert skip(stretches, 20) == []
