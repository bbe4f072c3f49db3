"""The processes below one: who they are, what they use, and their end, all of them.

A process that is to be ended with all that it started is made a subreaper at its birth, so that nobody leaves its tree
while it lives. A process group would not do: whoever makes a session of its own is out of it, and a child begins in the
group of the program that asked for it.
"""

from __future__ import annotations

import os
from time import monotonic

from warmfork._machine import pids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

STOP, KILL = 19, 9
PATIENCE = 1.0
"""Seconds that the processes of a tree may take to stop. After that they are killed as they run."""

TICKS = os.sysconf("SC_CLK_TCK")
HELD = (b"RssAnon:", b"RssShmem:", b"VmSwap:")


def list_children(pid: int) -> list[int]:
    """List the children of a process, of all its threads. Nothing where there is no such process."""
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                found += map(int, file.read().split())
    except OSError:  # it ended, or a thread of it did
        return found
    return found


def list_descendants(pid: int) -> Iterator[tuple[int, int]]:
    """List (pid, parent) of all processes below this one, parents before their children."""
    parents = [pid]
    while parents:
        parent = parents.pop()
        for child in list_children(parent):
            yield child, parent
            parents.append(child)


def get_held(pid: int) -> int:
    """Give the bytes that a process holds in memory or swap and no file backs. 0 where it can't be told.

    18 us; the share that is its own (smaps_rollup) would take milliseconds, with the process's memory map locked.
    """
    held = 0
    try:
        with open(f"/proc/{pid}/status", "rb", buffering=0) as file:
            for line in file.read(8192).splitlines():
                if line.startswith(HELD):
                    held += int(line.split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return held * 1024


def get_cpu(pid: int) -> float:
    """Give the seconds of processor time of a process and of its children that it has waited for. 0 where there is none."""
    fields = pids.read_stat(pid)
    return sum(map(int, fields[11:15])) / TICKS if fields else 0.0


class TreeKill:
    """The end of a process and of everything below it, in steps, none of which waits.

    First all are stopped, the root first, until a look finds nobody new: a fork fails in a process that has a signal
    pending, so nobody can appear behind a look. Only then are they killed.
    """

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self.pidfd = pidfd  # not ours to close
        self.known: dict[int, int] = {}
        self.deadline = monotonic() + PATIENCE
        pids.send_signal(pidfd, STOP)

    def step(self) -> bool:
        """Take a step. True: all were killed."""
        new = self.look()
        late = monotonic() > self.deadline
        if not late and (new or not self.are_stopped()):
            return False
        for pidfd in self.known.values():
            pids.send_signal(pidfd, KILL)
        if new and monotonic() < self.deadline + PATIENCE:
            return False  # they do not stop, and start others: those become the root's, so it dies last
        pids.send_signal(self.pidfd, KILL)
        self.close()
        return True

    def look(self) -> bool:
        """Stop whoever was not there at the last look. True: there was somebody."""
        new = False
        for pid, parent in list_descendants(self.pid):
            if pid in self.known:
                continue
            try:
                pidfd = os.pidfd_open(pid)
            except OSError:  # it ended, and is reaped; or this program has no fd left, and the next look tries again
                continue
            fields = pids.read_stat(pid)
            if len(fields) < 2 or int(fields[1]) not in (parent, self.pid):  # the pid is another's by now
                os.close(pidfd)
                continue
            self.known[pid] = pidfd
            new = new or fields[0] != b"Z"
            pids.send_signal(pidfd, STOP)
        return new

    def are_stopped(self) -> bool:
        """Have all of them stopped, or ended? One that somebody continued is stopped again."""
        running = False
        for pid, pidfd in ((self.pid, self.pidfd), *self.known.items()):
            if pids.read_stat(pid)[:1] not in ([b"T"], [b"t"], [b"Z"], [b"X"], []):
                running = True
                pids.send_signal(pidfd, STOP)
        return not running

    def finish(self) -> None:
        """Take all steps at once."""
        from time import sleep

        while not self.step():
            sleep(0.001)

    def close(self) -> None:
        """Let go of the pidfds."""
        while self.known:
            os.close(self.known.popitem()[1])


def end_session(parent: int, session: int) -> None:
    """Kill those children of `parent` that belong to this session, whose leader is dead: what it left behind is the
    child of the next subreaper then. The number can't be another's while one of them lives."""
    for pid in list_children(parent):
        if get_session(pid) == session:
            end_tree(pid)


def get_session(pid: int) -> int:
    """Give the session of a process that lives. 0 where there is none."""
    fields = pids.read_stat(pid)
    return int(fields[3]) if len(fields) > 3 and fields[0] != b"Z" else 0


def end_descendants() -> None:
    """Kill all processes below this one, which is a subreaper: they are its children in the end, and so are orphans."""
    living = True
    while living:
        living = False
        for pid in list_children(os.getpid()):  # not another's before we have reaped it
            if pids.read_stat(pid)[:1] not in ([b"Z"], []):
                living = True
                end_tree(pid)


def end_tree(pid: int) -> None:
    """Kill a process and all below it. Nothing where there is none."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        TreeKill(pid, pidfd).finish()
    finally:
        os.close(pidfd)
