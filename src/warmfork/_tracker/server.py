"""The tracker's loop: the door, the templates, orphans and their fates, the end of the tree.

It never unpickles, and waits for nobody: what may take its time is done by a sweeper, or when the loop has ended. What
it knows is in the ledger and on the boards, which outlive it.
"""

from __future__ import annotations

import os
from time import monotonic

from warmfork._machine import fds, pids, signals, sockets, titles
from warmfork._machine.loop import Loop
from warmfork._tracker.answers import answer_channel
from warmfork._tracker.generations import Generations
from warmfork._tracker.orphans import Orphans
from warmfork._tracker.templates import TemplateRecord, read_spec
from warmfork._words import messages, protocol, wire
from warmfork._words.spec import identify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from resource import struct_rusage
    from typing import Protocol

    from warmfork._tracker.book import Book
    from warmfork._tracker.first import Started

    class NameKeeper(Protocol):
        """What keeps the names of a tree: a tracker works without it."""

        def succeed(self) -> None:
            """Go on where the tracker before this one has ended."""

        def serve(self, message: messages.Message, got: sockets.Received) -> None:
            """Do what a process of ours asks."""

        def is_busy(self) -> bool:
            """Is there something that is to come to its end?"""

        def get_due(self) -> float | None:
            """Give the time, by monotonic(), of what is to be done next, or None."""

        def do_due(self) -> None:
            """Do what is due."""

        def bury(self, pid: int) -> bool:
            """A child of ours is dead. Was it one of its own?"""

        def bury_root(self) -> None:
            """The program is dead."""

        def end(self) -> int:
            """The tree has ended. Gives how many names were left."""

    MakeNames = Callable[[Loop, Book], NameKeeper]

WARNING, ERROR = 30, 40


class Tracker:
    """What the tracker of a tree knows."""

    def __init__(
        self, door: sockets.socket, own: sockets.socket, book: Book, root_stack: int, make_names: MakeNames
    ) -> None:
        root = book.get_root()
        self.root = root
        self.root_stack = root_stack
        self.root_dead = False
        self.ids = os.getuid(), os.getgid()
        self.door = door
        self.door_open = True
        self.book = book
        self.reserve = fds.Fd(fds.open_null())
        # Hold the program's stderr only: a pipe behind its stdout is to end when it ends.
        os.dup2(self.reserve.fileno(), 1)
        self.loop = Loop(
            lambda text: book.report(ERROR, f"an error in the tracker, which goes on (please report it):\n{text}")
        )
        self.names = make_names(self.loop, book)
        self.orphans = Orphans(self.loop, lambda text: book.report(WARNING, text))
        self.generations = Generations(self.loop, book, self.orphans.inherit, self.reap_all)
        self.own = own
        self.loop.watch(door.fileno(), self.read_door)
        self.loop.watch(own.fileno(), self.read_own)
        self.root_pidfd = fds.Fd(pids.open_same(root.pid, root.since))
        if self.root_pidfd:
            self.loop.watch(self.root_pidfd.fileno(), self.bury_root)
        else:
            self.root_dead = True
            self.names.bury_root()
        self.names.succeed()
        self.awake = self.listen_to_deaths()
        titles.load()
        self.broken = 0
        self.show_title()

    def show_title(self) -> None:
        """Say in the title whose tracker this is, and what does not work."""
        broken = f" [{self.broken} broken template{'s' if self.broken > 1 else ''}]" if self.broken else ""
        titles.set_title(f"warmfork: tracker {self.root.name}{broken}")

    # -- the loop

    def serve(self) -> int:
        """Serve until the tree has ended. Gives the exit code: 1 where names were left, as the stdlib's tracker does."""
        while self.is_needed():
            self.loop.turn(self.plan())
            self.loop.guard(self.orphans.pending_kills.kill_due, None)
            self.loop.guard(self.generations.serve_deferred, True, None)
            self.loop.guard(self.names.do_due, None)
            self.loop.guard(self.look_for_broken, None)
        self.reserve.close()
        return 1 if self.names.end() else 0

    def is_needed(self) -> bool:
        """Is there somebody to serve? Strangers that have come to us, since nobody else is their parent, are not."""
        return (
            not self.root_dead
            or self.door_open
            or self.generations.any_alive()
            or bool(self.orphans.living or self.orphans.pending_kills)
            or self.names.is_busy()
        )

    def plan(self) -> float | None:
        """Give the seconds until there is something to do that nobody asks for, or None."""
        kills = self.orphans.pending_kills
        due = [self.generations.get_due(), self.names.get_due(), kills.get_due() if kills else None]
        known = [at for at in due if at is not None]
        return max(0.0, min(known) - monotonic()) if known else None

    def look_for_broken(self) -> None:
        """Have the title say how many templates are broken off."""
        broken = self.generations.count_broken()
        if broken != self.broken:
            self.broken = broken
            self.show_title()

    def bury_root(self, _events: int) -> None:
        """The program is dead. Templates see it themselves, unless they still preload."""
        self.root_dead = True
        self.names.bury_root()
        self.loop.forget(self.root_pidfd.fileno())
        self.generations.bury_root(self.root.pid)
        self.orphans.bury_client(self.root.pid)

    # -- the door

    def serve_first(self, first: sockets.Received, started: Started | None) -> None:
        """Serve the Hello that came before the loop; its template may have been forked already."""
        with first:
            if started is None:
                self.serve_message(first)
                return
            spec = read_spec(first.fds[2])
            template = TemplateRecord(
                identify(spec), spec.name, 1, started.pid, started.board, started.log, started.control,
                stacks=started.stacks,
            )  # fmt: skip
            template.note_asker(first.pid)
            self.generations.add_template(template)

    def read_door(self, _events: int) -> None:
        """Read one message from the door."""
        if not self.read_one(self.door):
            self.close_door()

    def read_own(self, _events: int) -> None:
        """Read one message from the program's own socket, after all that is still at the door: what was said first is
        heard first."""
        while self.door_open and fds.wait_readable(self.door.fileno(), 0):
            self.loop.guard(self.read_door, 0, None)
        if not self.read_one(self.own):
            self.loop.forget(self.own.fileno())

    def read_one(self, socket: sockets.socket) -> bool:
        """Read one message, with an fd in reserve: where there is no other, the first that comes along is the channel on
        which that can be said. False at the end of the stream."""
        self.reserve.close()
        try:
            with sockets.receive(socket) as got:
                if got.data:
                    self.serve_message(got)
                return bool(got.data) or got.uid >= 0  # somebody has sent nothing, else
        except BlockingIOError:
            return True
        finally:
            self.refill_reserve()

    def refill_reserve(self) -> None:
        """Have an fd in reserve again; where there is none, it is tried again with the next message."""
        try:
            self.reserve = fds.Fd(fds.open_null())
        except OSError:
            self.reserve = fds.Fd(-1)

    def close_door(self) -> None:
        """Nobody holds a sending end: every process of the tree is dead, or has closed all its fds. Or one of them has shut
        it down, which is the end of it for all."""
        self.door_open = False
        self.loop.forget(self.door.fileno())
        if self.root_dead:
            return
        if self.root_stack and pids.read_start_stack(self.root.pid) != self.root_stack:
            self.bury_root(0)  # it has become another program
        else:
            self.book.report(
                WARNING,
                "the socket on which processes reach the tracker was shut down by one of them (shutdown()?): those "
                "that were started before can't be heard any longer; the program makes another at its next start",
            )

    def open_door(self, door: sockets.socket) -> None:
        """The program has made another door."""
        if self.door_open:
            self.loop.forget(self.door.fileno())
        os.dup2(door.fileno(), self.door.fileno(), inheritable=False)  # in its place, by which `ps` knows a tracker
        door.close()
        self.door_open = True
        self.loop.watch(self.door.fileno(), self.read_door)

    def serve_message(self, got: sockets.Received) -> None:
        """Do what the message asks. Nonsense, or fds that did not all arrive, cost the sender its message; and nobody is
        served who is another user than we are, or of another group: he would have our rights."""
        try:
            message = wire.decode(got.data)
            protocol.step(protocol.DOOR, "open", protocol.UP, message)
            if (got.uid, got.gid) == self.ids:
                self.serve_words(message, got)
            elif isinstance(message, messages.Hello) and got.fds:
                difference = f"user and group ids: {got.uid} and {got.gid}, not {self.ids[0]} and {self.ids[1]}"
                answer_channel(got.fds[0], messages.Refused(difference, 1))
        except (ValueError, sockets.NoSocket):
            return

    def serve_words(self, message: messages.Message, got: sockets.Received) -> None:
        """Do what a process of ours asks."""
        if isinstance(message, messages.Hello):
            self.generations.serve_hello(message, got)
        elif isinstance(message, messages.Hung):
            self.generations.end_if_hung(message.pid)
        elif isinstance(message, messages.Door):
            if got.pid == self.root.pid and not self.root_dead and len(got.fds) == 1:
                self.open_door(sockets.take_answer(got))
        elif isinstance(message, messages.Inherit):
            if got.pid == self.root.pid and not self.root_dead:
                self.generations.take_over(message, got)
        elif isinstance(message, messages.GiveUp):
            if len(got.fds) == 2:
                self.generations.give_up(got.pid, got.fds[0], sockets.take_answer(got))
        elif isinstance(message, messages.Ask) and len(got.fds) == 1:
            self.reap_all()  # its template may be dead since a moment ago
            self.generations.look_at_inherited()
            self.orphans.serve_ask(message, sockets.take_answer(got))
        else:
            self.names.serve(message, got)

    # -- deaths

    def listen_to_deaths(self) -> fds.Fd:
        """Have SIGCHLD wake the loop."""
        awake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signals.wake_by_deaths(wake)
        self.loop.watch(awake, self.reap)
        os.write(wake, b"!")  # what died before we listened
        return fds.Fd(awake)

    def reap(self, _events: int) -> None:
        """Children have died."""
        os.read(self.awake.fileno(), 4096)
        self.reap_all()

    def reap_all(self) -> None:
        """Reap all that are dead: templates, orphans, sweepers, and strangers."""
        while True:
            try:
                dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if dead is None:
                return
            since = pids.read_since(dead.si_pid)
            pid, status, usage = os.wait4(dead.si_pid, 0)
            self.loop.guard(self.bury, pid, since, status, usage, None)

    def bury(self, pid: int, since: int, status: int, usage: struct_rusage) -> None:
        """A child of ours is dead."""
        template = self.generations.by_pid.get(pid)
        if self.names.bury(pid):
            return
        if template is not None and template.alive and template.pidfd is None:
            self.generations.bury_template(template, status)
        else:
            self.orphans.keep_fate(pid, since, status, usage, self.generations.list_stacks())
