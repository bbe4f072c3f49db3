from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import fork, run_forked, wait_until
from warmfork._machine import fds, pids
from warmfork._words.outcome import Exited, Signaled, read_status

KERNEL = tuple(int(part) for part in os.uname().release.split(".")[:2])
Dead = tuple[int, int]


@pytest.fixture
def child() -> Iterator[Dead]:
    """A process that waits for a signal, with its pidfd."""
    pid = fork()
    if pid == 0:
        try:
            signal.pause()
        finally:
            os._exit(1)
    pidfd = pids.open_pidfd(pid)
    yield pid, pidfd
    os.close(pidfd)
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        return


def leave_zombie(end: Callable[[], object]) -> Dead:
    """A process that ended so and is not reaped, with its pidfd."""
    pid = fork()
    if pid == 0:
        try:
            end()
        finally:
            os._exit(255)
    pidfd = pids.open_pidfd(pid)
    assert fds.wait_readable(pidfd, 10)
    return pid, pidfd


def end_by(number: int) -> Callable[[], object]:
    def end() -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
        os.kill(os.getpid(), number)

    return end


ENDS = [
    (lambda: os._exit(0), Exited(0)),
    (lambda: os._exit(3), Exited(3)),
    (lambda: os._exit(255), Exited(255)),
    (end_by(signal.SIGKILL), Signaled(9)),
    (end_by(signal.SIGTERM), Signaled(15)),
]
each_end = pytest.mark.parametrize(("end", "outcome"), ENDS, ids=lambda value: "" if callable(value) else repr(value))


def test_a_pidfd_names_its_process_until_that_is_dead(child):
    pid, pidfd = child
    assert pids.read_pid(pidfd) == pid
    os.kill(pid, signal.SIGKILL)
    assert fds.wait_readable(pidfd, 10)
    os.waitpid(pid, 0)
    assert pids.read_pid(pidfd) == -1


def test_an_fd_that_is_no_pidfd_names_nobody():
    """A client may send anything in its hello."""
    fd = os.open(os.devnull, os.O_RDONLY)
    assert pids.read_pid(fd) == -1
    os.close(fd)


def test_there_is_no_pidfd_on_nobody(child):
    pid, _ = child
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with pytest.raises(ProcessLookupError):
        pids.open_pidfd(pid)


def test_a_signal_reaches_the_process_and_a_dead_one_takes_none(child):
    pid, pidfd = child
    assert pids.send_signal(pidfd, 0)
    assert pids.send_signal(pidfd, signal.SIGKILL)
    assert read_status(os.waitpid(pid, 0)[1]) == Signaled(9)
    assert not pids.send_signal(pidfd, signal.SIGKILL)


@each_end
def test_a_zombie_shows_its_status(end, outcome):
    """Field 52 of its stat, for the same user."""
    pid, pidfd = leave_zombie(end)
    status = pids.read_zombie_status(pidfd)
    assert status is not None and read_status(status) == outcome
    assert status == os.waitpid(pid, 0)[1]
    assert pids.read_zombie_status(pidfd) is None
    os.close(pidfd)


def test_a_living_process_has_no_status(child):
    assert pids.read_zombie_status(child[1]) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not look")
@pytest.mark.parametrize("code", [0, 7])
def test_to_those_who_may_not_look_the_status_of_a_zombie_is_unknown(code):
    """The kernel shows them 0, whatever it is."""

    def look() -> tuple[bytes, int | None]:
        os.setuid(12_345)
        return pids.read_stat(pid)[-1], pids.read_zombie_status(pidfd)

    pid, pidfd = leave_zombie(lambda: os._exit(code))
    assert run_forked(look) == (b"0", None)
    assert pids.read_zombie_status(pidfd) == code << 8
    os.waitpid(pid, 0)
    os.close(pidfd)


def test_what_a_zombie_showed_does_not_count_if_it_was_reaped_meanwhile(monkeypatch):
    """Its pid may have been another process's then."""
    _, pidfd = leave_zombie(lambda: os._exit(7))
    read_stat = pids.read_stat

    def read_and_reap(number: int) -> list[bytes]:
        fields = read_stat(number)
        os.waitpid(number, 0)
        return fields

    monkeypatch.setattr(pids, "read_stat", read_and_reap)
    assert pids.read_zombie_status(pidfd) is None
    os.close(pidfd)


def test_a_process_with_spaces_and_brackets_in_its_name_is_read_all_the_same():
    def end() -> None:
        with open("/proc/self/comm", "w") as file:
            file.write(") Z (x")
        os._exit(7)

    pid, pidfd = leave_zombie(end)
    assert pids.read_zombie_status(pidfd) == 7 << 8
    os.waitpid(pid, 0)
    os.close(pidfd)


@each_end
def test_a_new_kernel_tells_the_status_of_a_process_that_somebody_else_reaped(end, outcome):
    pid, pidfd = leave_zombie(end)
    assert pids.ask_status(pidfd) is None, "before it is reaped nobody tells"
    status = os.waitpid(pid, 0)[1]
    told = pids.ask_status(pidfd)
    os.close(pidfd)
    if KERNEL >= (6, 15):
        assert told == status
        assert read_status(told) == outcome
    else:
        assert told is None


def test_a_clean_exit_is_told_as_0_and_not_as_unknown():
    pid, pidfd = leave_zombie(lambda: os._exit(0))
    os.waitpid(pid, 0)
    assert pids.ask_status(pidfd) == (0 if KERNEL >= (6, 15) else None)
    os.close(pidfd)


def test_a_living_process_and_a_file_have_no_status(child):
    fd = os.open(os.devnull, os.O_RDONLY)
    assert pids.ask_status(child[1]) is None
    assert pids.ask_status(fd) is None
    os.close(fd)


def test_a_subreaper_becomes_the_parent_of_orphans():
    def adopt() -> bool:
        pids.become_subreaper()
        read, write = os.pipe()
        middle = fork()
        if middle == 0:
            orphan = fork()
            if orphan == 0:
                os.read(read, 1)
                os._exit(0)
            os.write(write, b"")
            os._exit(0)
        os.waitpid(middle, 0)
        children = Path(f"/proc/self/task/{os.getpid()}/children")
        [orphan] = wait_until(lambda: children.read_text().split(), 5)
        os.write(write, b"x")
        return os.waitpid(int(orphan), 0) == (int(orphan), 0)

    assert run_forked(adopt)


@pytest.mark.skipif(KERNEL < (6, 15), reason="an older kernel keeps no status")
def test_the_status_is_found_though_the_parent_reaps_while_we_look(monkeypatch):
    pid, pidfd = leave_zombie(lambda: os._exit(7))

    def reap_first(pidfd: int) -> None:
        os.waitpid(pid, 0)

    monkeypatch.setattr(pids, "read_zombie_status", reap_first)
    assert pids.find_status(pidfd) == 7 << 8
    os.close(pidfd)


def test_a_zombie_is_not_reaped_until_somebody_has_reaped_it():
    """M4: the pidfd of a zombie is readable; that it is reaped, and that the kernel knows its status, comes after."""
    pid, pidfd = leave_zombie(lambda: os._exit(0))
    assert not pids.wait_reaped(pidfd, 0.05)
    os.waitpid(pid, 0)
    assert KERNEL < (6, 15) or pids.wait_reaped(pidfd, 5)
    os.close(pidfd)


@pytest.mark.parametrize("pid", [2**40, 2**31, 2**70, -5, 0, 1 << 22])
def test_what_is_no_pid_is_opened_as_the_dead_are(pid: int):
    """The rows of a board may have been written by anybody."""
    assert pids.open_older(pid, 2**62) == -1
    assert pids.open_same(pid, 5) == -1
