"""The end of a process and of all below it: of these, and of nobody else."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests import targets
from tests.support import fork, run_forked, wait_until
from warmfork._machine import fds, pids
from warmfork._machine.pending_kills import PendingKills
from warmfork._tasks import tree

STRANGER = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
print(child.pid, flush=True)
sys.stdin.read()
child.kill()
child.wait()
"""


@pytest.fixture
def stranger() -> Iterator[tuple[int, int, int]]:
    """A process and a child of it, which are nobody's to end: the process's pid, a pidfd on the child; and a pidfd on one
    that is dead, which had the pid before."""
    process = subprocess.Popen(
        [sys.executable, "-c", STRANGER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    child = os.pidfd_open(int(process.stdout.readline()))
    pid = fork()
    if pid == 0:
        os._exit(0)
    dead = os.pidfd_open(pid)
    os.waitpid(pid, 0)
    yield process.pid, child, dead
    process.communicate("")
    for fd in (child, dead):
        os.close(fd)


def test_the_children_of_whoever_has_the_pid_of_a_dead_one_are_left_alone(stranger: tuple[int, int, int]):
    pid, child, dead = stranger
    tree.TreeKill(pid, dead).finish()
    assert not targets.is_dead(child)


def test_they_are_left_alone_where_a_process_is_asked_to_end_as_well(stranger: tuple[int, int, int]):
    pid, child, dead = stranger
    kills = PendingKills()
    kills.end(pid, os.dup(dead))
    assert not kills
    assert not targets.is_dead(child)


def end_what_can_be(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """End two children, of which one is not ours to end."""
    pids.become_subreaper()
    children = []
    for _ in range(2):
        pid = fork()
        if pid == 0:
            signal.pause()
        children.append(os.pidfd_open(pid))
    spared, real = pid, pids.send_signal

    def send_signal(pidfd: int, number: int) -> bool:
        if pids.read_pid(pidfd) == spared:
            raise PermissionError(1, "it has become another user")
        return real(pidfd, number)

    monkeypatch.setattr(pids, "send_signal", send_signal)
    tree.end_descendants()
    dead = [targets.is_dead(child) for child in children]
    os.kill(spared, signal.SIGKILL)
    return dead


def test_who_can_not_be_ended_keeps_nobody_else_alive_and_nobody_waiting(monkeypatch: pytest.MonkeyPatch):
    """A task that had left a set-user-id program was told to have ended with 1, by the error."""
    assert run_forked(end_what_can_be, monkeypatch) == [True, False]


CHAIN = """
import os, signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.write(1, b"x")
while True:
    if os.fork():
        os._exit(0)
    os.setsid()
"""


def end_chains() -> bool:
    """End processes that fork and end, again and again, in a process of which they are descendants."""
    pids.become_subreaper()
    reader, writer = os.pipe()
    for _ in range(3):
        streams = [(os.POSIX_SPAWN_DUP2, writer, 1)]
        os.posix_spawn(sys.executable, [sys.executable, "-S", "-c", CHAIN], os.environ, file_actions=streams)
    os.close(writer)
    for _ in range(3):
        os.read(reader, 1)
    tree.end_descendants()
    return fds.wait_readable(reader, 5) and os.read(reader, 1) == b""  # nobody has its other end


def test_who_forks_and_ends_all_the_time_is_ended_too():
    """Where it was between two of its processes, nobody was seen, and what a task had left ran for ever."""
    for _ in range(5):
        assert run_forked(end_chains)


def be_headless() -> None:
    """Go on without the first thread."""
    os.setsid()
    threading.Thread(target=signal.pause).start()
    number = {"x86_64": 60, "aarch64": 93}[os.uname().machine]  # exit(2), of one thread
    ctypes.CDLL(None).syscall(ctypes.c_long(number), ctypes.c_long(0))


def end_headless(how: str) -> bool:
    """End a process of which the first thread has ended, in one of the ways in which processes are ended."""
    pids.become_subreaper()
    reader, writer = os.pipe()
    parent = fork()
    if parent == 0:
        if (pid := fork()) == 0:
            be_headless()
        os.write(writer, b"%d" % pid)
        if how != "below another":
            os._exit(0)
        signal.pause()
    os.close(writer)
    pid = int(os.read(reader, 20))
    pidfd = os.pidfd_open(pid)
    wait_until(lambda: pids.read_stat(pid)[:1] == [b"Z"])
    if how != "below another":
        os.waitpid(parent, 0)  # it is ours by then
    if how == "below another":
        assert tree.end_tree(parent)
    elif how == "by its session":
        tree.end_session(os.getpid(), pid)
    else:
        tree.end_descendants()
    dead = fds.wait_readable(reader, 2) and os.read(reader, 1) == b""  # nobody has its other end
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    return dead


@pytest.mark.skipif(os.uname().machine not in ("x86_64", "aarch64"), reason="the number of exit(2) is not known")
@pytest.mark.parametrize("how", ["below another", "by its session", "as a descendant"])
def test_a_process_whose_first_thread_has_ended_is_ended_as_others_are(how: str):
    """It is shown as a zombie, and was taken for a dead one: it ran on."""
    began = time.monotonic()
    assert run_forked(end_headless, how)
    assert time.monotonic() - began < tree.LONGEST


def test_where_the_kernel_lists_no_children_nobody_waits_for_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tree, "list_children", lambda _: [])

    def leave_one() -> bool:
        if (pid := fork()) == 0:
            signal.pause()
        tree.end_descendants()
        alive = os.waitpid(pid, os.WNOHANG) == (0, 0)
        os.kill(pid, signal.SIGKILL)
        return alive

    assert run_forked(leave_one)
