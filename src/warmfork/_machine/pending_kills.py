"""Ending processes, each with all that it has started: SIGTERM, SIGCONT, a grace, SIGKILL.

Who is among its descendants is looked up before the first signal. What a process left behind when it ended by itself is
nobody's to end.
"""

from __future__ import annotations

import os
from time import monotonic

from warmfork._machine import fds, pids, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GRACE = 1.0
"""Seconds between SIGTERM and SIGKILL for the children of a client that died: 2 s later nothing is to be left."""

TERM, KILL, CONT = 15, 9, 18


class PendingKills:
    """Processes that are on their way out: children of this process, or others that a pidfd names."""

    def __init__(self, report: Callable[[str], None] | None = None) -> None:
        self.report = report  # has somebody read whom we may not end
        self.due: dict[int, float] = {}
        self.pidfds: dict[int, fds.Fd] = {}
        self.descendants: list[tuple[float, fds.Fd]] = []

    def __bool__(self) -> bool:
        return bool(self.due or self.descendants)

    def end(self, pid: int, pidfd: int = -1) -> None:
        """Ask a process and its descendants to end, and end those that have not after the grace. Without a pidfd it must
        be a child that this process has not reaped: its pid is its own then. The pidfd is closed in time."""
        owned = fds.Fd(pidfd)
        if pid in self.due:
            owned.close()
            return
        due = monotonic() + GRACE
        found = open_descendants(pid)  # later they would have another parent
        if owned and fds.wait_readable(owned.fileno(), 0):
            owned.close()
            return  # it is dead, and was no longer the one of this pid, it may be: others' children are not to be ended
        if owned:
            self.pidfds[pid] = owned
        self.due[pid] = due
        self.descendants += [(due, descendant) for descendant in found]
        self.ask(pid, self.send)
        for descendant in found:
            self.ask(descendant.fileno(), syscalls.send_pidfd_signal)

    def ask(self, whom: int, send: Callable[[int, int], None]) -> None:
        """Ask a process to end. A stopped one takes SIGTERM only after SIGCONT."""
        if self.may(send, whom, TERM):
            self.may(send, whom, CONT)

    def may(self, send: Callable[[int, int], None], whom: int, number: int) -> bool:
        """Send a signal. False where the process is dead, or we may not: it has become another user's (sudo), or we have
        no CAP_KILL. The latter is said, once for each, for the first signal."""
        try:
            send(whom, number)
        except ProcessLookupError:
            return False
        except PermissionError as error:
            if number == TERM and self.report is not None:
                pid = whom if send == self.send else pids.read_pid(whom)
                self.report(f"pid {pid} was to end with its program, and can't be ended by us: {error.strerror}")
            return False
        return True

    def send(self, pid: int, number: int) -> None:
        """Send a signal to one that was named by its pid."""
        pidfd = self.pidfds.get(pid)
        if pidfd is not None:
            syscalls.send_pidfd_signal(pidfd.fileno(), number)
        else:
            os.kill(pid, number)

    def forget(self, pid: int) -> None:
        """It is dead. Its descendants may not be."""
        self.due.pop(pid, None)
        pidfd = self.pidfds.pop(pid, None)
        if pidfd is not None:
            pidfd.close()

    def kill_due(self) -> None:
        """Kill those whose grace is over. Each is taken off before that: what goes wrong must not come again at every turn
        of a loop."""
        now = monotonic()
        for pid in [pid for pid, due in self.due.items() if due <= now]:
            del self.due[pid]
            try:
                self.may(self.send, pid, KILL)
            finally:
                self.forget(pid)  # nothing outlives that
        while late := next((item for item in self.descendants if item[0] <= now), None):
            self.descendants.remove(late)
            with late[1] as descendant:
                self.may(syscalls.send_pidfd_signal, descendant.fileno(), KILL)

    def get_due(self) -> float:
        """Give when the next is due, by monotonic(). There must be one."""
        return min([*self.due.values(), *(due for due, _ in self.descendants)])


def open_descendants(pid: int) -> list[fds.Fd]:
    """Open a pidfd on each process below this one. What can't be seen, or opened for want of fds, is left out."""
    return [pidfd for _, pidfd in walk_descendants(pid) if pidfd]


def walk_descendants(root: int) -> Iterator[tuple[int, fds.Fd]]:
    """Give each process below this one as it is found, parents first, with a pidfd that is the caller's to close; with an
    empty one where this process has no fd left. Who loses its parent meanwhile may be left out: another walk finds it."""
    todo, seen = [(child, root) for child in list_children(root)], {root}
    while todo:
        pid, parent = todo.pop()
        if pid in seen:
            continue
        seen.add(pid)
        try:
            pidfd = fds.Fd(pids.open_pidfd(pid))
        except ProcessLookupError:
            continue
        except OSError:
            yield pid, fds.Fd(-1)
            continue
        # Whoever has this pid now is the one that was listed, if it has the parent that it was listed with; or the root,
        # which is given the orphans where it is a subreaper.
        if pids.read_stat(pid)[1:2] in ([b"%d" % parent], [b"%d" % root]):
            todo += [(child, pid) for child in list_children(pid)]  # now, for the caller may be about to end it
            yield pid, pidfd
        else:
            pidfd.close()


def list_children(pid: int) -> list[int]:
    """List the children of a process, of all its threads. None where it is dead, or the kernel does not list them
    (CONFIG_PROC_CHILDREN)."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            found += map(int, fds.read_whole(f"/proc/{pid}/task/{thread}/children").split())
    except OSError:
        return found
    return found
