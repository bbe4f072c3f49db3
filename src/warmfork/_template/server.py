"""The server: one loop that adopts clients, forks for them, reaps, and tells. One thread, and it waits for nobody.

It unpickles nothing, never sees a payload or a client's environment, and wakes only for a cause. `serve` returns only
in a child, with its birth, or when no client is left.
"""

from __future__ import annotations

import os
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT
from time import monotonic, monotonic_ns

from warmfork._child.birth import Birth
from warmfork._machine import sockets, titles
from warmfork._machine.loop import Loop
from warmfork._template.children import Children
from warmfork._template.clients import ClientRecord
from warmfork._template.spares import SparePolicy
from warmfork._template.state import TemplateState, count_started, holds_children, is_ended_with_client
from warmfork._words import board as board_
from warmfork._words import messages, protocol, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from warmfork._template.main import Given

    class IdleTime(Protocol):
        """What fills idle time: a template works without it."""

        def begin(self) -> list[str]:
            """The preload is over, and no child is there. Gives what is to be logged."""

        def get_due(self) -> float | None:
            """Give the time, by monotonic(), from which there is something to do, or None."""

        def use(self) -> None:
            """Nobody wants anything: do a little."""

    MakeIdle = Callable[[TemplateState, Loop, Children, Callable[[], None]], IdleTime]

EPERM = 1

LONELY = 10.0
"""Seconds after which a template ends that never had a client: whoever wanted it was dead before it could be told."""


class Server:
    """Serves clients until none is left."""

    def __init__(self, state: TemplateState, given: Given, control: sockets.socket, make_idle: MakeIdle) -> None:
        self.state = state
        self.given = given
        self.control = control
        self.notes: tuple[str, ...] = ()  # for the log of whoever becomes a client
        self.loop = Loop(self.report)
        self.children = Children(state, self.loop, given.stacks, self.release)
        self.idle = make_idle(state, self.loop, self.children, self.show_title)
        self.loop.watch(control.fileno(), self.read_control)

    # -- the loop

    def serve(self) -> Birth | None:
        """Serve until no client is left (None), or, in a child, give its birth."""
        state, births = self.state, self.children.births
        state.board.write_phase(board_.SERVING, monotonic_ns())
        self.show_title()
        adopted = bool(state.clients)  # the first may have come, and may have gone by now
        alone_until = monotonic() + LONELY
        while True:
            happened = self.loop.turn(self.plan(None if adopted else alone_until))
            if state.born is None and not happened:
                self.loop.guard(self.use_idle_time, None)
            if state.born is not None:
                return state.born
            if state.pending_kills:
                self.loop.guard(state.pending_kills.kill_due, None)
            if births.waiting:
                self.loop.guard(births.end_overdue, None)
            adopted = adopted or bool(state.clients)
            if state.clients or state.pending_kills:
                continue
            if adopted or self.control.fileno() < 0 or monotonic() >= alone_until:
                return None  # nobody is left, or nobody can come any more

    def plan(self, due: float | None) -> float | None:
        """Give the seconds until there is something to do that nobody asks for, or None. `due`: of what else there is."""
        moments = [due, self.idle.get_due(), self.children.births.get_due()]
        moments += [client.retry_at for client in self.state.clients]
        if self.state.pending_kills:
            moments.append(self.state.pending_kills.get_due())
        known = [moment for moment in moments if moment is not None]
        return max(0.0, min(known) - monotonic()) if known else None

    def use_idle_time(self) -> None:
        """Nothing happened for as long as was planned: send again what the kernel did not take, or see Idle."""
        now = monotonic()
        for client in [one for one in self.state.clients if one.retry_at is not None and one.retry_at <= now]:
            if not client.flush():
                self.detach(client)
        self.idle.use()

    def report(self, text: str) -> None:
        """Have our clients log an error of ours; and our own log, which is quoted when we die of one."""
        for client in self.state.clients:
            client.tell(
                messages.Noted(wire.fit(f"an error in the template, which goes on (please report it):\n{text}", 8000))
            )
        try:
            os.write(2, text.encode("utf-8", "replace"))
        except OSError:
            return  # it is full: at-fork handlers of the preload may write there at each fork

    def show_title(self) -> None:
        """Say in the title how many children there are."""
        state = self.state
        state.titled = len(state.children)
        count = count_started(state)
        plural = "child" if count == 1 else "children"
        titles.set_title(f"warmfork: template {state.spec.name} gen={state.generation} [{count} {plural}]")

    # -- clients

    def read_control(self, _events: int) -> None:
        """Adopt a client that the tracker sends."""
        got = sockets.receive_waiting(self.control)
        if got is None:
            return
        with got:
            if not got.data:
                if not got.fds:
                    self.loop.forget(self.control.fileno())
                    self.control.close()
                return
            try:
                message = wire.decode(got.data)
                protocol.step(protocol.CONTROL, "sealed", protocol.DOWN, message)
            except ValueError:
                return
            if not isinstance(message, messages.Adopt) or len(got.fds) != 2:
                return
            channel, pidfd = got.take().release(), got.take().release()
            try:
                self.adopt(sockets.adopt_socket(channel), message.pid, pidfd)
            except sockets.NoSocket:
                os.close(pidfd)

    def adopt(self, channel: sockets.socket, pid: int, pidfd: int) -> None:
        """Take a client on and welcome it. Where that takes a file too many, it is told so."""
        client = ClientRecord(channel, pid, pidfd, SparePolicy(self.state.policy), self.loop.poller)
        try:
            self.loop.watch(
                channel.fileno(),
                lambda events: self.read_channel(client, events),
                drop=lambda: self.detach(client),
            )
            self.loop.watch(pidfd, lambda events: self.bury_client(client), drop=lambda: self.release(client))
            me = os.dup(self.state.me)
            board = dup_or_close(self.given.board, me)
        except OSError as error:
            self.turn_away(channel, pidfd, error)
            return
        self.state.clients.add(client)
        self.loop.guard(lambda: client.tell(self.make_welcome(), (me, board)), lambda: self.detach(client))

    def turn_away(self, channel: sockets.socket, pidfd: int, error: OSError) -> None:
        """Tell a client why it can't be served. Where not even that can be sent, the end of its channel says it."""
        refusal = messages.Refused(f"it can't take another client: {error.strerror}", 0)
        sockets.try_to_send(channel, wire.encode(refusal))
        for fd in (channel.fileno(), pidfd):
            self.loop.forget(fd)
        channel.close()
        os.close(pidfd)

    def make_welcome(self) -> messages.Message:
        """Say what a client has to know of this template; leave out what is too large to say."""
        state = self.state
        welcome = messages.Welcome(state.generation, os.getpid(), *state.here, state.spec.environment, self.notes)
        try:
            wire.encode(welcome)
        except wire.WireError:
            notes = tuple(wire.fit(note, 1000) for note in self.notes[:20])
            return messages.Welcome(state.generation, os.getpid(), *state.here, (), notes)
        return welcome

    def read_channel(self, client: ClientRecord, events: int) -> None:
        """Read one request. One at a time, so that clients take turns."""
        if client.channel is None:
            return
        if events & EPOLLOUT and not client.flush():
            self.detach(client)
            return
        if not client.events & EPOLLIN and events & (EPOLLHUP | EPOLLERR):
            self.detach(client)  # it never read what it asked for
            return
        if not events & (EPOLLIN | EPOLLHUP | EPOLLERR) or not client.events & EPOLLIN:
            return
        got = sockets.receive_waiting(client.channel)
        if got is None:
            return
        got.close()
        try:
            message = wire.decode(got.data)
            protocol.step(protocol.CHANNEL, "served", protocol.UP, message)
        except ValueError:
            # Nonsense costs the sender its own channel, and nobody else anything; no data is the channel's end.
            self.detach(client)
            return
        now = self.state.busy = monotonic()
        if isinstance(message, messages.Spawn):
            self.serve_spawn(client, message, now)
        elif isinstance(message, messages.SpareTaken):
            if message.pid in client.traffic.spares:
                self.children.enter(client, message)
            else:  # it is dead already, and was taken for a spare that nobody wanted: the next start has one again
                client.traffic.note_start(now, True)
        elif isinstance(message, messages.Wanted):
            from warmfork._machine import wanted

            known = self.state.wanted
            known += [module for module in wanted.list_missing(message.names) if module not in known]

    def serve_spawn(self, client: ClientRecord, wanted: messages.Spawn, now: float) -> None:
        """Fork a child for a client that may do what its children may."""
        step = "rights"
        try:
            errno = EPERM if client.has_less() else 0
        except OSError as error:
            step, errno = "look at rights", error.errno or EPERM
        if errno:
            client.tell(messages.SpawnFailed(wanted.request, errno, step))
            return
        client.traffic.note_start(now, True, self.state.latest in self.state.children)
        self.children.fork(client, messages.Spawn(wanted.request, int(bool(wanted.kill)), wanted.name))

    def detach(self, client: ClientRecord) -> None:
        """The client has let go of its channel. It may live on: its children's policy still needs its death."""
        if client.channel is not None:
            self.loop.forget(client.channel.fileno())
            client.drop()
        if not holds_children(self.state, client):
            self.release(client)
        elif client.is_another_program():
            self.bury_client(client)

    def release(self, client: ClientRecord) -> None:
        """Nothing depends on this client any longer."""
        if client in self.state.clients:
            self.state.clients.remove(client)
            self.loop.forget(client.pidfd)
            os.close(client.pidfd)

    def bury_client(self, client: ClientRecord) -> None:
        """The client is dead: end those of its children whose policy says so, let the others live."""
        children, client.children = client.children, set()
        for pid in children:
            if is_ended_with_client(self.state, pid):
                self.loop.guard(self.state.pending_kills.end, pid, None)
        self.detach(client)


def dup_or_close(fd: int, other: int) -> int:
    """Give a copy of an fd. Raises OSError, the other closed, where there can be none."""
    try:
        return os.dup(fd)
    except OSError:
        os.close(other)
        raise
