"""The end of a worker that is in the middle of a task: it is asked first, then told, then killed with all below it."""

from __future__ import annotations

from time import monotonic

from warmfork._machine import fds, pids
from warmfork._tasks import tree
from warmfork.api.executor.futures import log

SIGINT, SIGTERM, SIGCONT = 2, 15, 18

ASK, TELL = 0.25, 0.75
"""Seconds after SIGINT, which lets `finally` run, until SIGTERM; and from there to SIGKILL."""

GIVE_UP = 5.0
"""Seconds after SIGKILL after which a process is written off: it waits in the kernel, for a disk or a debugger."""

STEP = 0.001


class Killing:
    """The steps of one end. Each is taken when it is `due`, and none waits."""

    def __init__(self, pid: int, pidfd: int, first: str = "ask", number: int = 0, owned: fds.Fd | None = None) -> None:
        """Take the first step: "ask" (SIGINT), "tell" (SIGTERM), or "kill". The pidfd is not ours, or `owned`. `number`: of
        the task whose process it is, where that is not the worker."""
        self.pid, self.pidfd = pid, pidfd
        self.number = number
        self.owned = owned
        self.tree: tree.TreeKill | None = None
        self.next = first
        self.due = monotonic()
        self.step()

    def step(self) -> bool:
        """Take the next step. True: there is no other, and it lives all the same."""
        try:
            return self.take_step()
        except PermissionError:  # it has become another user
            self.next, self.due = "give up", monotonic()
            return False

    def take_step(self) -> bool:
        """Take it. Raises PermissionError where we may not end it."""
        if self.next == "ask":
            self.signal(SIGINT)
            self.next, self.due = "tell", monotonic() + ASK
        elif self.next == "tell":
            self.signal(SIGTERM)
            self.next, self.due = "kill", monotonic() + TELL
        elif self.next == "kill":
            if self.tree is None:
                self.tree = tree.TreeKill(self.pid, self.pidfd)
            self.due = monotonic() + STEP
            if self.tree.step():
                self.next, self.due = "give up", monotonic() + GIVE_UP
        else:
            state = b" ".join(pids.read_stat(self.pid)[:1]).decode() or "gone"
            log().error("pid %d does not die of SIGKILL (state %s): it is written off", self.pid, state)
            return True
        return False

    def signal(self, number: int) -> None:
        """Send a signal; a stopped process takes it only when it goes on."""
        pids.send_signal(self.pidfd, number)
        pids.send_signal(self.pidfd, SIGCONT)
