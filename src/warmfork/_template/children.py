"""Forking children for clients, and reaping them."""

from __future__ import annotations

import gc
import os
from time import clock_gettime_ns, monotonic, monotonic_ns

from warmfork._child.birth import Birth
from warmfork._machine import pids, signals, titles
from warmfork._template import forking, spares
from warmfork._template.births import FEED, Births
from warmfork._template.deaths import Deaths
from warmfork._template.state import get_leave, get_signals, holds_children
from warmfork._words import board as board_
from warmfork._words import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from warmfork._machine.loop import Loop
    from warmfork._template.clients import ClientRecord
    from warmfork._template.state import TemplateState

EAGAIN = 11
BOOTTIME = 7
"""CLOCK_BOOTTIME, in which the kernel tells when a process was started."""

SPARE = messages.Spawn(0, 0, "spare")
"""What the template asks of itself."""


class Children:
    """Those of this template, from fork to death."""

    def __init__(self, state: TemplateState, loop: Loop, stacks: int, release: Callable[[ClientRecord], None]) -> None:
        self.state = state
        self.loop = loop
        self.births = Births(state)
        self.deaths = Deaths(stacks)
        self.release = release  # lets go of a client on which nothing depends any longer
        self.awake = listen_to_deaths()
        loop.watch(self.awake, self.reap)

    def fork(self, client: ClientRecord, wanted: messages.Spawn) -> None:
        """Fork a child for this client and announce it. A fork that fails is an answer, not our end."""
        state, board = self.state, self.state.board
        slot = board.take_slot()
        if slot < 0:
            self.refuse(client, wanted, EAGAIN, "board")
            return
        is_spare = wanted is SPARE
        if state.wanted:
            self.load_wanted()  # or this child would load it, and after it the next
        now = monotonic_ns()
        name = board_.encode_name(wanted.name)
        board.write_slot(slot, client.pid, wanted.kill, now, clock_gettime_ns(BOOTTIME), name)
        board.write_phase(board_.FORKING, now)
        try:
            leave, told = (get_leave(state), get_signals(state)) if is_spare else (-1, -1)
            kept = (*state.kept, leave, told, client.pidfd) if is_spare else state.kept
            pid, ours, theirs = forking.fork_child(kept, apart=is_spare)
        except OSError as error:
            board.write_phase(board_.SERVING, now)
            board.free_slot(slot)
            self.refuse(client, wanted, error.errno or 0, str(error.filename))
            return
        if pid == 0:
            state.born = Birth(ours, board, slot, state.base, state.spec)
            state.born.keep = self
            if is_spare:
                self.become_spare(state.born, client, leave, told)
            return
        board.write_phase(board_.SERVING, now)
        board.write_pid(slot, pid)
        state.children[pid] = slot, client, wanted.kill
        self.births.note(pid, slot)
        client.children.add(pid)
        try:
            pidfd = pids.open_pidfd(pid)
        except OSError as error:
            theirs.close()  # the child reads the end of its feed, and leaves
            self.refuse(client, wanted, error.errno or 0, "pidfd_open")
            return
        client.tell(messages.Spawned(wanted.request, pid), (pidfd, theirs.detach()))
        if is_spare:
            client.traffic.spares.add(pid)
        else:
            self.note_started(pid)

    def fork_spare(self, client: ClientRecord) -> None:
        """Fork a child ahead for this client."""
        self.fork(client, SPARE)

    def load_wanted(self, most: int | None = None) -> None:
        """Load what clients have, all of it or so many modules."""
        from warmfork._machine import wanted

        state = self.state
        loading, state.wanted = state.wanted[:most], state.wanted[len(state.wanted[:most]) :]
        for module in loading:
            wanted.load(module)
        if "freeze" not in state.spec.without:
            gc.freeze()

    def become_spare(self, born: Birth, client: ClientRecord, leave: int, told: int) -> None:
        """In a child that was forked ahead: be ready to wait."""
        born.client, born.leave, born.signals, born.watch = client.pid, leave, told, client.pidfd
        titles.set_title(f"warmfork: spare {self.state.spec.name}")
        for touch in self.state.prefault_calls:
            touch()
        if self.state.policy == spares.AUTO:
            born.life = spares.LIFE

    def refuse(self, client: ClientRecord, wanted: messages.Spawn, errno: int, step: str) -> None:
        """The kernel gave no child. A spare is then not tried for again before the client's next start."""
        if wanted is SPARE:
            client.traffic.target = 0
        else:
            client.tell(messages.SpawnFailed(wanted.request, errno, step))

    def note_started(self, pid: int) -> None:
        """A child was started."""
        self.state.latest = pid
        self.state.starts += 1
        self.state.board.write_starts(self.state.starts)

    def enter(self, client: ClientRecord, took: messages.SpareTaken) -> None:
        """A spare has become a child of its client."""
        kill = int(bool(took.kill))
        self.note_taken(client, took.pid)
        slot = self.state.children[took.pid][0]
        self.state.children[took.pid] = slot, client, kill
        self.births.note(took.pid, slot)
        self.state.board.write_child(slot, kill, board_.encode_name(took.name))

    def note_taken(self, client: ClientRecord, pid: int) -> None:
        """A spare is a child now."""
        client.traffic.spares.discard(pid)
        client.traffic.note_start(self.state.busy, False, self.state.latest in self.state.children)
        self.note_started(pid)

    def reap(self, _events: int) -> None:
        """Reap what is dead, and tell. First the child that was started last, if it is that: asked for any, the kernel looks
        at all that live, which takes it 60 us where 2,000 do."""
        state = self.state
        os.read(self.awake, 4096)
        state.busy = monotonic()
        latest = state.latest if state.latest in state.children else -1
        while True:
            try:
                pid, status, usage = os.wait4(latest, os.WNOHANG)
            except ChildProcessError:
                pid = 0
            if pid == 0 and latest < 0:
                return
            latest = -1
            if pid == 0:
                continue
            known = state.children.pop(pid, None)
            state.pending_kills.forget(pid)
            if known is None:
                continue  # a helper that took over a child's memory, or a process that a preload started
            slot, client, _ = known
            row = state.board.read_row(slot) if pid in client.traffic.spares else None
            if row is not None and row.step > FEED:
                self.note_taken(client, pid)  # it lived for so short a time that its client has not told us yet
            state.board.free_slot(slot)
            client.children.discard(pid)
            client.traffic.note_death(pid, state.busy)
            self.loop.guard(self.deaths.tell, client, pid, status, usage, None)  # the others are dead all the same
            if client.channel is None and not holds_children(state, client):
                self.release(client)


def listen_to_deaths() -> int:
    """Have SIGCHLD write to a pipe, and give the end to read from. Handler and wakeup fd of the preload are given back in
    children."""
    awake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    forking.user_wakeup, forking.user_handler = signals.wake_by_deaths(wake)
    return awake
