"""The children that dead templates left: they are the tracker's now. It tells how they end, and ends them where their
policy says so: the template's board says whose they were."""

from __future__ import annotations

import os
from time import monotonic_ns

from warmfork._machine import evidence, fds, pids, proc
from warmfork._machine.pending_kills import PendingKills
from warmfork._tracker.answers import send_answer
from warmfork._words import board as board_
from warmfork._words import messages, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from resource import struct_rusage

    from warmfork._tracker.loop import Loop

FATES = 4096
"""Statuses of orphans that are kept for whoever asks."""

NEAR_NS = 1_000_000_000
"""Nanoseconds between a fork, as its template noted it, and the start of the process, as the kernel did, at most."""


class Orphans:
    """What the tracker knows of them."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.fates: dict[int, messages.Fate] = {}
        self.asked: dict[int, list[fds.socket]] = {}
        self.pending_kills = PendingKills()
        self.witness = evidence.Witness()
        self.left: list[board_.Board] = []  # of dead templates that left children
        self.clients: dict[int, int] = {}  # pidfds on those whose death is the end of some of them

    # -- policy

    def inherit(self, board: board_.Board) -> None:
        """A template is dead. Watch the clients of those of its children that are to end with them."""
        rows = [row for row in list_live(board) if row.kill]
        if not rows:
            return
        self.left.append(board)
        # A client lived when its child was forked. Whom it said hello to is no help: that may have been another tracker.
        for client, forked in {row.client: row.forked_ns for row in rows}.items():
            if client in self.clients:
                continue
            pidfd = pids.open_older(client, forked)
            if pidfd < 0:
                self.bury_client(client)
                continue
            self.clients[client] = pidfd
            self.loop.watch(pidfd, lambda _events, client=client: self.bury_client(client))  # type: ignore[misc]

    def bury_client(self, client: int) -> None:
        """A client is dead: its orphans go with it, where their policy says so. Spares go with their feed."""
        pidfd = self.clients.pop(client, -1)
        if pidfd >= 0:
            self.loop.forget(pidfd)
            os.close(pidfd)
        for board in self.left:
            for row in list_live(board):
                if row.kill and row.client == client:
                    self.end(row)
        self.left = [board for board in self.left if any(row.kill for row in list_live(board))]

    def end(self, row: board_.Row) -> None:
        """End the child in this row, which was started at that moment (see list_live), if it is our child or was a
        template's. A board proves nothing."""
        if is_child(row.pid):
            self.pending_kills.end(row.pid)
            return
        pidfd = pids.open_older(row.pid, row.forked_ns + NEAR_NS)
        if pidfd >= 0 and holds_stacks(row.pid):
            self.pending_kills.end(row.pid, pidfd)
        elif pidfd >= 0:
            os.close(pidfd)

    # -- fates

    def keep_fate(self, pid: int, status: int, usage: struct_rusage, stacks: list[int]) -> None:
        """An orphan is dead: tell who asked, keep it for who will. In one of these files its stack may be."""
        self.pending_kills.forget(pid)
        stack = why = ""
        if status & 0x7F:
            for file in stacks or [-1]:
                stack, why = self.witness.ask(status, pid, file)
                if stack or why:
                    break
        user, system = int(usage.ru_utime * 1e6), int(usage.ru_stime * 1e6)
        now = monotonic_ns() // 1000
        fate = messages.Fate(
            pid, 1, status, user, system, usage.ru_maxrss, now, wire.fit(stack, 16_000), wire.fit(why, 2000)
        )
        for answer in self.asked.pop(pid, ()):
            send_answer(answer, fate)
        self.fates[pid] = fate
        if len(self.fates) > FATES:
            del self.fates[next(iter(self.fates))]

    def serve_ask(self, pid: int, answer: fds.socket) -> None:
        """Say what became of a process, now or when it is dead."""
        fate = self.fates.get(pid)
        if fate is not None:
            send_answer(answer, fate)
        elif is_child(pid):
            self.asked.setdefault(pid, []).append(answer)
        else:
            send_answer(answer, messages.Fate(pid, 0, 0, 0, 0, 0, 0, "", ""))


def list_live(board: board_.Board) -> Iterator[board_.Row]:
    """List the children of a dead template that live."""
    for row in board.rows():
        # Nobody strikes the dead off a dead template's board, and their pids go to others.
        if is_its_process(row):
            yield row


def is_child(pid: int) -> bool:
    """Is this process our child, alive or not reaped yet?"""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def holds_stacks(pid: int) -> bool:
    """Has this process a file for stacks open? Children of templates that died before this tracker was started are not
    our children: that is what they are known by. One that has closed all its fds is left alone."""
    return any("warmfork-stacks" in target for target in (proc.list_files(pid) or {}).values())


def is_its_process(row: board_.Row) -> bool:
    """Was the process of this pid started when the one in the row was forked?"""
    return abs(pids.read_since(row.pid) - row.forked_ns) < NEAR_NS
