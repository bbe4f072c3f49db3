"""Ending processes: SIGTERM, SIGCONT, a grace, SIGKILL (M22)."""

from __future__ import annotations

import os
from time import monotonic

from warmfork._machine import pids

GRACE = 1.0
"""Seconds between SIGTERM and SIGKILL for the children of a client that died: 2 s later nothing is to be left."""

TERM, KILL, CONT = 15, 9, 18


class PendingKills:
    """Processes that are on their way out: children of this process, or others that a pidfd names."""

    def __init__(self) -> None:
        self.due: dict[int, float] = {}
        self.pidfds: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self.due)

    def end(self, pid: int, pidfd: int = -1) -> None:
        """Ask a process to end, and end it where it has not after the grace. Without a pidfd it must be a child that this
        process has not reaped: its pid is its own then. The pidfd is closed in time."""
        if pid in self.due:
            if pidfd >= 0:
                os.close(pidfd)
            return
        if pidfd >= 0:
            self.pidfds[pid] = pidfd
        self.send(pid, TERM)
        self.send(pid, CONT)  # a stopped process takes SIGTERM only after SIGCONT
        self.due[pid] = monotonic() + GRACE

    def send(self, pid: int, number: int) -> None:
        """Send it a signal. One that we may not end (it runs as another user by now, as sudo does) or that is dead costs
        the others nothing."""
        pidfd = self.pidfds.get(pid, -1)
        try:
            if pidfd >= 0:
                pids.send_signal(pidfd, number)
            else:
                os.kill(pid, number)
        except (PermissionError, ProcessLookupError):
            return

    def forget(self, pid: int) -> None:
        """It is dead."""
        self.due.pop(pid, None)
        pidfd = self.pidfds.pop(pid, -1)
        if pidfd >= 0:
            os.close(pidfd)

    def kill_due(self) -> None:
        """Kill those whose grace is over."""
        now = monotonic()
        for pid in [pid for pid, due in self.due.items() if due <= now]:
            self.send(pid, KILL)
            self.forget(pid)  # nothing outlives that

    def get_due(self) -> float:
        """Give when the next is due, by monotonic(). There must be one."""
        return min(self.due.values())
