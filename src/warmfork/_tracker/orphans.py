"""The children that dead templates left: they are the tracker's now. It tells how they end, and ends them where their
policy says so: the template's board says whose they were.

Others that come to us, since we are a subreaper, are none of ours: what a child has started by subprocess, and left. We
reap them, and they keep nothing alive.
"""

from __future__ import annotations

import os
from time import monotonic_ns

from warmfork._machine import evidence, fds, pids, sockets
from warmfork._machine import stacks as stacks_
from warmfork._machine.pending_kills import PendingKills
from warmfork._tracker.answers import send_answer
from warmfork._words import board as board_
from warmfork._words import messages, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from resource import struct_rusage

    from warmfork._machine.loop import Loop

FATES = 4096
"""Statuses of orphans that are kept for whoever asks."""

MOST_ASKED = 256
"""Sockets of those who wait for a fate, at most. Nobody waits for long who asks about a process that he has seen dead: who
asked first of so many is told that nobody knows."""

NEAR_NS = 1_000_000_000
"""Nanoseconds between a fork, as its template noted it, and the start of the process, as the kernel did, at most."""


class Orphan:
    """A child that a dead template left, and that lived then."""

    __slots__ = ("client", "kill", "pid", "pidfd")

    def __init__(self, pid: int, client: int, kill: int, pidfd: fds.Fd) -> None:
        self.pid, self.client, self.kill = pid, client, kill
        self.pidfd = pidfd  # none of one that is our child: its pid is its own until we reap it


class Orphans:
    """What the tracker knows of them."""

    def __init__(self, loop: Loop, report: Callable[[str], None]) -> None:
        self.loop = loop
        self.living: dict[int, Orphan] = {}
        self.fates: dict[tuple[int, int], messages.Fate] = {}  # by pid, and when it was started
        self.asked: dict[int, list[sockets.socket]] = {}
        self.pending_kills = PendingKills(report)
        self.witness = evidence.Witness()
        self.clients: dict[int, fds.Fd] = {}  # pidfds on those whose death is the end of some of them

    # -- policy

    def inherit(self, board: board_.Board) -> None:
        """A template is dead: its children are ours. Watch the clients of those that are to end with them."""
        rows = list(list_live(board))
        for row in rows:
            self.loop.guard(self.take, row, None)
        # A client lived when its child was forked. Whom it said hello to is no help: that may have been another tracker.
        for client, forked in {row.client: row.forked_ns for row in rows if row.kill}.items():
            if client not in self.clients:
                self.loop.guard(self.watch_client, client, forked, None)

    def take(self, row: board_.Row) -> None:
        """Take an orphan on. One that is not our child is watched by pidfd, if it shows that it is a template's: a row
        alone is no proof, for its numbers are known to everybody."""
        pidfd = fds.Fd(-1)
        if not is_child(row.pid):
            pidfd = fds.Fd(pids.open_older(row.pid, row.forked_ns + NEAR_NS))
            if not pidfd or not holds_stacks(row.pid):
                pidfd.close()
                return  # dead since, or somebody else
            self.loop.watch(pidfd.fileno(), lambda _events: self.forget(row.pid))
        self.living[row.pid] = Orphan(row.pid, row.client, row.kill, pidfd)

    def watch_client(self, client: int, forked: int) -> None:
        """Watch a client that lived at that moment; where it is dead by now, bury it."""
        pidfd = fds.Fd(pids.open_older(client, forked))
        if pidfd:
            self.loop.watch(pidfd.fileno(), lambda _events: self.bury_client(client))
            self.clients[client] = pidfd
        else:
            self.bury_client(client)

    def bury_client(self, client: int) -> None:
        """A client is dead: its orphans go with it, where their policy says so. Spares go with their feed."""
        pidfd = self.clients.pop(client, None)
        if pidfd is not None:
            self.loop.forget(pidfd.fileno())
            pidfd.close()
        for orphan in list(self.living.values()):
            if orphan.kill and orphan.client == client:
                self.loop.guard(self.end, orphan, None)

    def end(self, orphan: Orphan) -> None:
        """End this one."""
        self.pending_kills.end(orphan.pid, os.dup(orphan.pidfd.fileno()) if orphan.pidfd else -1)

    def forget(self, pid: int) -> None:
        """It is dead."""
        self.pending_kills.forget(pid)
        orphan = self.living.pop(pid, None)
        if orphan is not None and orphan.pidfd:
            self.loop.forget(orphan.pidfd.fileno())
            orphan.pidfd.close()

    # -- fates

    def keep_fate(self, pid: int, since: int, status: int, usage: struct_rusage, stacks: list[int]) -> None:
        """A child of ours is dead: tell who asked, keep it for who will. In one of these files its stack may be. `since`
        is when it was started."""
        self.forget(pid)
        stack = why = ""
        if status & 0x7F:
            for file in stacks or [-1]:
                stack, why = self.witness.ask(status, pid, file)
                if stack or why:
                    break
        for file in stacks:
            stacks_.free_excess(file)
        user, system = int(usage.ru_utime * 1e6), int(usage.ru_stime * 1e6)
        now = monotonic_ns() // 1000
        fate = messages.Fate(
            pid, 1, status, user, system, usage.ru_maxrss, now, wire.fit(stack, 16_000), wire.fit(why, 2000)
        )
        for answer in self.asked.pop(pid, ()):
            self.loop.forget(answer.fileno())
            send_answer(answer, fate)
        self.fates[pid, since] = fate
        if len(self.fates) > FATES:
            del self.fates[next(iter(self.fates))]

    def serve_ask(self, ask: messages.Ask, answer: sockets.socket) -> None:
        """Say what became of a process, now or when it is dead."""
        sinces = [since for pid, since in self.fates if pid == ask.pid and since <= ask.moment]
        if sinces:  # a later process with this pid was started after that moment
            send_answer(answer, self.fates[ask.pid, max(sinces)])
        elif is_child(ask.pid) and pids.read_since(ask.pid) <= ask.moment:
            if sum(map(len, self.asked.values())) >= MOST_ASKED:
                pid, first = next((pid, answers[0]) for pid, answers in self.asked.items())
                self.drop_ask(pid, first)
            self.asked.setdefault(ask.pid, []).append(answer)
            # An event is the end of the socket: whoever asked has gone.
            self.loop.watch(answer.fileno(), lambda _events: self.drop_ask(ask.pid, answer))
        else:
            send_answer(answer, messages.Fate(ask.pid, 0, 0, 0, 0, 0, 0, "", ""))

    def drop_ask(self, pid: int, answer: sockets.socket) -> None:
        """Nobody waits for this answer any longer, or for too long."""
        self.loop.forget(answer.fileno())
        answer.close()
        self.asked[pid].remove(answer)
        if not self.asked[pid]:
            del self.asked[pid]


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
    except (OSError, OverflowError):  # not ours, or no pid at all
        return False
    return True


def holds_stacks(pid: int) -> bool:
    """Has this process a file for stacks open? Children of templates that died before this tracker was started are not
    our children: that is what they are known by. One that has closed all its fds is left alone."""
    return any("warmfork-stacks" in target for target in (fds.list_files(pid) or {}).values())


def is_its_process(row: board_.Row) -> bool:
    """Was the process of this pid started when the one in the row was forked?"""
    return abs(pids.read_since(row.pid) - row.forked_ns) < NEAR_NS
