"""The processes below one: who they are, what they use, and their end, all of them.

A process that is to be ended with all that it started is made a subreaper at its birth, so that nobody leaves its tree
while it lives. A process group would not do: whoever makes a session of its own is out of it, and a child begins in the
group of the program that asked for it.
"""

from __future__ import annotations

import os
from time import monotonic

from warmfork._machine import fds, pids
from warmfork._machine.pending_kills import list_children, walk_descendants

STOP, KILL = 19, 9
PATIENCE = 2.0
"""Seconds that the processes of a tree may take to die. After that the root goes all the same."""

LONGEST = 10.0
"""Seconds after which what is below a process is left alone: it starts others faster than these can be ended."""

MOST_UNSEEN = 20
"""Looks at which none is seen that could be ended, though there is one, until there is none: one that forks and ends is not
seen now and then, and a kernel that lists no children shows none at all."""

TICKS = os.sysconf("SC_CLK_TCK")
HELD = (b"RssAnon:", b"RssShmem:", b"VmSwap:")


def list_descendants(pid: int) -> list[int]:
    """List all processes below this one."""
    found = []
    for child, pidfd in walk_descendants(pid):
        pidfd.close()
        found.append(child)
    return found


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

    The root is stopped, and dies last: whoever loses its parent meanwhile becomes the root's child, and is seen at the
    next look. Whoever is seen is killed at once, and can't start anybody from then on.
    """

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self.pidfd = pidfd  # not ours to close
        self.deadline = monotonic() + PATIENCE
        self.seen: set[int] | None = None
        pids.send_signal(pidfd, STOP)

    def step(self) -> bool:
        """Look once. True: nobody was left but the root, which is killed now; or it is dead."""
        if fds.wait_readable(self.pidfd, 0):
            return True  # its pid may be another's by now, with children of his
        living, seen = False, set()
        for pid, pidfd in walk_descendants(self.pid):
            with pidfd:
                seen.add(pid)
                living = not pidfd or kill_living(pidfd.fileno()) or living
        # Twice the same: one that ended during the first look may have left a child, too late for that look.
        again = living or seen != self.seen
        self.seen = seen
        if again and monotonic() < self.deadline:
            return False
        pids.send_signal(self.pidfd, KILL)
        return True

    def finish(self) -> None:
        """Take all steps at once."""
        from time import sleep

        while not self.step():
            sleep(0.0005)


def kill_living(pidfd: int) -> bool:
    """Kill a process. False: it is dead already, or has become another user, whom we may not end."""
    # By its pidfd: one whose first thread alone has ended is shown as a zombie, too.
    if fds.wait_readable(pidfd, 0):
        return False
    try:
        return pids.send_signal(pidfd, KILL)
    except PermissionError:
        return False


def end_session(parent: int, session: int) -> None:
    """Kill those children of `parent` that belong to this session, whose leader is dead: what it left behind is the
    child of the next subreaper then. The number can't be another's while one of them lives."""
    for pid in list_children(parent):
        if get_session(pid) == session:
            end_tree(pid)


def get_session(pid: int) -> int:
    """Give the session of a process that is not reaped. 0 where there is none."""
    fields = pids.read_stat(pid)
    return int(fields[3]) if len(fields) > 3 else 0


def end_descendants() -> None:
    """Kill all processes below this one, which is a subreaper: they are its children in the end, and so are orphans. Nobody
    is left when it has no child, dead or alive: who forks and ends at once is one of both at any moment."""
    spared: set[int] = set()  # those that can't be ended
    until, unseen = monotonic() + LONGEST, 0
    while have_children() and unseen < MOST_UNSEEN and monotonic() < until:
        children = set(list_children(os.getpid())) - spared  # whose pids are not others' before we have reaped them
        unseen = 0 if children else unseen + 1
        for pid in children:
            if not end_tree(pid):
                spared.add(pid)


def have_children() -> bool:
    """Reap all children that are dead. False: there are no others."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue
    except ChildProcessError:
        return False
    return True


def end_tree(pid: int) -> bool:
    """Kill a process and all below it, waiting a moment for its death. False: it does not die, or we may not end it, since
    it has become another user (sudo). Nothing where there is none."""
    try:
        pidfd = fds.Fd(pids.open_pidfd(pid))
    except ProcessLookupError:
        return True
    except OSError:
        return False
    with pidfd:
        try:
            TreeKill(pid, pidfd.fileno()).finish()
        except PermissionError:
            return False
        return fds.wait_readable(pidfd.fileno(), PATIENCE)
