"""The server: one loop that adopts clients, forks for them, reaps, and tells. One thread, and it waits for nobody.

It unpickles nothing, never sees a payload or a client's environment, and wakes only for a cause. `serve` returns only
in a child, with its birth, or when no client is left.
"""

from __future__ import annotations

import os
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, epoll
from time import clock_gettime_ns, monotonic, monotonic_ns

from warmfork._child.birth import Birth
from warmfork._machine import fds, signals, state, titles
from warmfork._machine.pending_kills import PendingKills
from warmfork._template import seal, spares
from warmfork._template.births import Births
from warmfork._template.clients import ClientRecord
from warmfork._template.deaths import Deaths
from warmfork._template.forking import fork_child
from warmfork._template.idle import Idle
from warmfork._template.spares import SparePolicy
from warmfork._words import board as board_
from warmfork._words import messages, protocol, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from warmfork._template.main import Given
    from warmfork._words.board import Board
    from warmfork._words.spec import Spec

EAGAIN = 11
BOOTTIME = 7
"""CLOCK_BOOTTIME, in which the kernel tells when a process was started."""

SPARE = messages.Spawn(0, 0, "spare")
"""What the template asks of itself."""


class Server:
    """What a sealed template knows."""

    def __init__(self, spec: Spec, board: Board, given: Given, control: fds.socket, kept: tuple[int, ...]) -> None:
        self.spec = spec
        self.board = board
        self.given = given
        self.generation = given.generation
        self.control = control
        self.kept = *kept, board.file  # what the preload opened: children have it, as they would under fork
        self.deaths = Deaths(board.file)
        self.base = state.take_always_said()
        self.notes: tuple[str, ...] = ()
        here = os.stat(".")
        self.here = here.st_dev, here.st_ino
        self.environment: tuple[str, ...] = spec.environment
        self.me = os.pidfd_open(os.getpid())
        self.children: dict[int, tuple[int, ClientRecord, int]] = {}  # pid: slot, client, kill
        self.pending_kills = PendingKills()
        self.clients: set[ClientRecord] = set()
        self.starts = 0
        self.policy = spares.NONE if spares.is_commit_strict() else spec.spares
        self.latest = 0  # the child that was started last
        self.busy = 0.0  # when a child last started or died, by monotonic()
        self.titled = -1
        self.idle = Idle(self)
        self.births = Births(self)
        self.born: Birth | None = None
        self.poller = epoll()
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.fresh: set[int] = set()  # watched since the last poll, which tells nothing of them
        self.board_to_read = os.open(f"/proc/self/fd/{board.file}", os.O_RDONLY | os.O_CLOEXEC)
        self.watch(control.fileno(), self.read_control)
        self.awake = self.listen_to_deaths()

    # -- the loop

    def serve(self) -> Birth | None:
        """Serve until no client is left (None), or, in a child, give its birth."""
        self.board.write_phase(board_.SERVING, monotonic_ns())
        self.show_title()
        adopted = bool(self.clients)  # the first may have come, and may have gone by now
        while True:
            self.fresh.clear()
            events = self.poller.poll(self.plan())
            for fd, what in events:
                handler = self.handlers.get(fd)
                # An fd that was closed in this round may have given its number to another, on which nothing happened.
                if handler is not None and fd not in self.fresh:
                    handler(what)
                if self.born is not None:
                    return self.born
            if not events:
                self.idle.use()
                if self.born is not None:
                    return self.born
            if self.pending_kills:
                self.pending_kills.kill_due()
            if self.births.waiting:
                self.births.look()
            adopted = adopted or bool(self.clients)
            if (adopted or self.control.fileno() < 0) and not self.clients and not self.pending_kills:
                return None  # nobody is left, or nobody can come any more

    def plan(self) -> float | None:
        """Give the seconds until there is something to do that nobody asks for, or None."""
        due = self.idle.get_due()
        birth = self.births.get_due()
        if birth is not None:
            due = birth if due is None else min(due, birth)
        if self.pending_kills:
            kill = self.pending_kills.get_due()
            due = kill if due is None else min(due, kill)
        return None if due is None else max(0.0, due - monotonic())

    def watch(self, fd: int, handler: Callable[[int], None], events: int = EPOLLIN) -> None:
        """Call this handler when something happens on this fd."""
        self.poller.register(fd, events)
        self.handlers[fd] = handler
        self.fresh.add(fd)

    def forget(self, fd: int) -> None:
        """Stop watching. Always before the fd is closed: a fork may hold its file open, and epoll would then report
        it for ever (44,965 events in 50 ms)."""
        del self.handlers[fd]
        self.poller.unregister(fd)

    def show_title(self) -> None:
        """Say in the title how many children there are."""
        self.titled = len(self.children)
        count = self.count_started()
        plural = "child" if count == 1 else "children"
        titles.set_title(f"warmfork: template {self.spec.name} gen={self.generation} [{count} {plural}]")

    def count_started(self) -> int:
        """Count the children that live and are no spares."""
        return len(self.children) - sum(len(client.traffic.spares) for client in self.clients)

    # -- clients

    def read_control(self, _events: int) -> None:
        """Adopt a client that the tracker sends."""
        try:
            got = fds.receive(self.control)
        except BlockingIOError:
            return
        except OSError:
            got = fds.Received(b"", [], 0, False)
        if not got.data:
            self.forget(self.control.fileno())
            self.control.close()
            return
        try:
            message = wire.decode(got.data)
            protocol.step(protocol.CONTROL, "sealed", protocol.DOWN, message)
        except ValueError:
            fds.close_all(got.fds)
            return
        if isinstance(message, messages.Adopt) and len(got.fds) == 2:
            try:
                channel = fds.adopt_socket(got.fds[0])
            except fds.NoSocket:
                os.close(got.fds[1])
            else:
                self.adopt(channel, message.pid, got.fds[1])
        else:
            fds.close_all(got.fds)

    def adopt(self, channel: fds.socket, pid: int, pidfd: int) -> None:
        """Take a client on and welcome it. Where that takes a file too many, it is told so."""
        client = ClientRecord(channel, pid, pidfd, SparePolicy(self.policy), self.poller)
        try:
            self.watch(channel.fileno(), lambda events: self.read_channel(client, events))
            self.watch(pidfd, lambda events: self.bury_client(client))
            me = os.dup(self.me)
            board = dup_or_close(self.board_to_read, me)
        except OSError as error:
            self.turn_away(channel, pidfd, error)
            return
        self.clients.add(client)
        client.tell(self.welcome(), (me, board))

    def turn_away(self, channel: fds.socket, pidfd: int, error: OSError) -> None:
        """Tell a client why it can't be served. Where not even that can be sent, the end of its channel says it."""
        try:
            fds.send(channel, wire.encode(messages.Refused(f"it can't take another client: {error.strerror}", 0)))
        except OSError:
            return
        finally:
            for fd in (channel.fileno(), pidfd):
                if fd in self.handlers:
                    self.forget(fd)
            channel.close()
            os.close(pidfd)

    def welcome(self) -> messages.Message:
        """Say what a client has to know of this template; leave out what is too large to say."""
        message = messages.Welcome(
            generation=self.generation,
            pid=os.getpid(),
            cwd_device=self.here[0],
            cwd_inode=self.here[1],
            environment=self.environment,
            notes=self.notes,
        )
        if sum(len(line) for line in self.environment + self.notes) > wire.LARGEST // 2:
            return messages.Welcome(
                self.generation, os.getpid(), *self.here, (), tuple(n[:500] for n in self.notes[:20])
            )
        return message

    def read_channel(self, client: ClientRecord, events: int) -> None:
        """Read one request. One at a time, so that clients take turns."""
        if client.channel is None:
            return
        if events & EPOLLOUT and not client.flush():
            self.detach(client)
            return
        if not events & (EPOLLIN | EPOLLHUP | EPOLLERR):
            return
        try:
            got = fds.receive(client.channel)
        except BlockingIOError:
            return
        except OSError:
            self.detach(client)
            return
        if not got.data:
            self.detach(client)
            return
        fds.close_all(got.fds)
        try:
            message = wire.decode(got.data)
            protocol.step(protocol.CHANNEL, "served", protocol.UP, message)
        except ValueError:
            # Nonsense costs the sender its own channel, and nobody else anything.
            self.detach(client)
            return
        now = self.busy = monotonic()
        if isinstance(message, messages.Spawn):
            client.traffic.note_start(now, missed=True)
            self.fork(client, message)
        elif isinstance(message, messages.SpareTaken) and message.pid in client.traffic.spares:
            client.traffic.note_start(now, missed=False)
            self.enter(client, message)

    def detach(self, client: ClientRecord) -> None:
        """The client has let go of its channel. It may live on: its children's policy still needs its death."""
        if client.channel is not None:
            self.forget(client.channel.fileno())
            client.drop()
        if not any(self.children[pid][2] for pid in client.children):
            self.release(client)
        elif client.is_another_program():
            self.bury_client(client)

    def release(self, client: ClientRecord) -> None:
        """Nothing depends on this client any longer."""
        if client in self.clients:
            self.clients.remove(client)
            self.forget(client.pidfd)
            os.close(client.pidfd)

    def bury_client(self, client: ClientRecord) -> None:
        """The client is dead: end those of its children whose policy says so, let the others live."""
        for pid in client.children:
            # The board, which a child that was a spare writes itself: the client may have died before it told us.
            if self.board.read_row(self.children[pid][0]).kill:
                self.pending_kills.end(pid)
        client.children = set()
        self.detach(client)

    # -- children

    def fork(self, client: ClientRecord, wanted: messages.Spawn) -> None:
        """Fork a child for this client and announce it. A fork that fails is an answer, not our end (rows 29, 30)."""
        slot = self.board.take_slot()
        if slot < 0:
            self.refuse(client, wanted, EAGAIN, "board")
            return
        now = monotonic_ns()
        name = board_.encode_name(wanted.name)
        self.board.write_slot(slot, client.pid, wanted.kill, now, clock_gettime_ns(BOOTTIME), name)
        self.board.write_phase(board_.FORKING, now)
        try:
            leave = self.idle.get_leave() if wanted is SPARE else -1
            pid, ours, theirs = fork_child(self.kept if leave < 0 else (*self.kept, leave, client.pidfd))
        except OSError as error:
            self.board.write_phase(board_.SERVING, now)
            self.board.free_slot(slot)
            self.refuse(client, wanted, error.errno or 0, str(error.filename))
            return
        if pid == 0:
            seal.restore_warnings()
            self.born = Birth(ours, self.board, slot, self.base, self.spec)
            self.born.keep = self
            if wanted is SPARE:
                self.born.client, self.born.leave, self.born.watch = client.pid, leave, client.pidfd
                titles.set_title(f"warmfork: spare {self.spec.name}")
                for touch in self.idle.prefault_calls:
                    touch()
                if self.policy == spares.AUTO:
                    self.born.life = spares.LIFE
            return
        self.board.write_phase(board_.SERVING, now)
        self.board.write_pid(slot, pid)
        self.children[pid] = slot, client, wanted.kill
        self.births.note(pid, slot)
        client.children.add(pid)
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            theirs.close()  # the child reads the end of its feed, and leaves
            self.refuse(client, wanted, error.errno or 0, "pidfd_open")
            return
        client.tell(messages.Spawned(wanted.request, pid), (pidfd, theirs.detach()))
        if wanted is SPARE:
            client.traffic.spares.add(pid)
        else:
            self.note_started(pid)

    def fork_spare(self, client: ClientRecord) -> None:
        """Fork a child ahead for this client."""
        self.fork(client, SPARE)

    def refuse(self, client: ClientRecord, wanted: messages.Spawn, errno: int, step: str) -> None:
        """The kernel gave no child. A spare is then not tried for again before the client's next start (M25)."""
        if wanted is SPARE:
            client.traffic.target = 0
        else:
            client.tell(messages.SpawnFailed(wanted.request, errno, step))

    def note_started(self, pid: int) -> None:
        """A child was started."""
        self.latest = pid
        self.starts += 1
        self.board.write_starts(self.starts)

    def enter(self, client: ClientRecord, took: messages.SpareTaken) -> None:
        """A spare has become a child of its client."""
        client.traffic.spares.discard(took.pid)
        slot = self.children[took.pid][0]
        self.children[took.pid] = slot, client, took.kill
        self.births.note(took.pid, slot)
        self.board.write_child(slot, took.kill, board_.encode_name(took.name))
        self.note_started(took.pid)

    def listen_to_deaths(self) -> int:
        """Have SIGCHLD wake the loop."""
        import _signal

        awake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        _signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        # Set after the preload, which may have changed it. A Python handler has to exist for the byte to be written.
        signals.set_disposition(signals.CHILD_DIED, lambda number, frame: None)
        self.watch(awake, self.reap)
        return awake

    def reap(self, _events: int) -> None:
        """Reap what is dead, and tell. First the child that was started last, if it is that: asked for any, the kernel looks
        at all that live, which takes it 60 us where 2,000 do."""
        os.read(self.awake, 4096)
        self.busy = monotonic()
        latest = self.latest if self.latest in self.children else -1
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
            known = self.children.pop(pid, None)
            self.pending_kills.forget(pid)
            if known is None:
                continue  # a helper that took over a child's memory, or a process that a preload started
            slot, client, _ = known
            self.board.free_slot(slot)
            client.children.discard(pid)
            client.traffic.note_death(pid, self.busy)
            self.deaths.tell(client, pid, status, usage)
            if client.channel is None and not any(self.children[other][2] for other in client.children):
                self.release(client)


def dup_or_close(fd: int, other: int) -> int:
    """Give a copy of an fd. Raises OSError, the other closed, where there can be none."""
    try:
        return os.dup(fd)
    except OSError:
        os.close(other)
        raise
