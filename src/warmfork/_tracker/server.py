"""The tracker's loop: the door, the templates, orphans and their fates, the end of the tree.

It never forks for a client, never unpickles, and blocks on nobody. What it knows is in the ledger and on the boards,
which outlive it.
"""

from __future__ import annotations

import os
from select import EPOLLHUP
from time import monotonic

from warmfork._machine import fds, pids, signals, titles
from warmfork._tracker import boards, names
from warmfork._tracker.answers import send_answer
from warmfork._tracker.generations import Generations
from warmfork._tracker.holders import Holders
from warmfork._tracker.loop import Loop
from warmfork._tracker.main import Started
from warmfork._tracker.orphans import Orphans, is_child
from warmfork._tracker.templates import TemplateRecord, read_spec
from warmfork._words import messages, protocol, wire
from warmfork._words.spec import identify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from warmfork._tracker.book import Book


class Tracker:
    """What the tracker of a tree knows."""

    def __init__(self, door: fds.socket, book: Book, root_stack: int, succeeds: bool) -> None:
        root = book.get_root()
        self.root = root
        self.root_stack = root_stack
        self.root_dead = False
        self.door = door
        self.door_open = True
        self.book = book
        self.titles = {root.pid: names.read_title(root.pid) or root.name}
        self.loop = Loop()
        self.orphans = Orphans(self.loop)
        self.generations = Generations(self.loop, book, (door.fileno(), book.fd), self.orphans.inherit)
        self.generations.reap = self.reap_all
        self.holders = Holders(self.loop, book)
        self.loop.watch(door.fileno(), self.read_door)
        self.root_pidfd = pids.open_same(root.pid, root.since)
        if self.root_pidfd >= 0:
            self.loop.watch(self.root_pidfd, self.bury_root)
        else:
            self.root_dead = True
        if succeeds:
            for board in boards.find_left(book.fd):
                self.orphans.inherit(board)
        self.awake = self.listen_to_deaths()
        self.let_go_of_stdout()
        titles.load()
        self.broken = 0
        self.show_title()

    def show_title(self) -> None:
        """Say in the title whose tracker this is, and what does not work."""
        broken = f" [{self.broken} broken template{'s' if self.broken > 1 else ''}]" if self.broken else ""
        titles.set_title(f"warmfork: tracker {self.root.name}{broken}")

    def let_go_of_stdout(self) -> None:
        """Hold the program's stderr only: a pipe behind its stdout is to end when it ends."""
        null = fds.open_null()
        os.dup2(null, 1)
        os.close(null)

    # -- the loop

    def serve(self) -> int:
        """Serve until the tree has ended. Gives the exit code: 1 where names were left, as the stdlib's tracker does."""
        pending_kills = self.orphans.pending_kills
        while not (self.root_dead and not self.door_open and not self.has_children()):
            self.loop.turn(max(0.0, pending_kills.get_due() - monotonic()) if pending_kills else None)
            pending_kills.kill_due()
            broken = self.generations.count_broken()
            if broken != self.broken:
                self.broken = broken
                self.show_title()
        left = self.sweep()
        names.sweep_prefix(self.root.prefix)
        names.sweep_dead_trees()
        return 1 if left else 0

    def sweep(self) -> int:
        """Report and remove all names. Gives how many there were."""
        left = [entry for entry in self.book.ledger.entries.values() if entry.holders is None or self.root_dead]
        for entry in left:
            self.book.write(messages.Dropped(entry.kind, entry.name, 0))
        return names.sweep(left, self.book.ledger.mixed)

    def has_children(self) -> bool:
        """Does any process live that is ours: a template, or an orphan?"""
        if self.generations.any_alive():
            return True
        try:
            return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:
            return False

    def bury_root(self, _events: int) -> None:
        """The program is dead. Templates see it themselves, unless they still preload."""
        self.root_dead = True
        self.loop.forget(self.root_pidfd)
        self.generations.end_preloading(self.root.pid)
        self.orphans.bury_client(self.root.pid)

    # -- the door

    def serve_first(self, first: fds.Received, started: Started | None) -> None:
        """Serve the message that came before the loop; its template may have been forked already."""
        if started is None:
            self.serve_message(first)
            return
        spec_fd = first.fds[2]
        spec = read_spec(spec_fd)
        template = TemplateRecord(
            identify(spec), spec.name, 1, started.pid, started.control, started.board, started.log,
            started.stacks,
        )  # fmt: skip
        template.note_asker(first.pid)
        self.generations.add_template(template)
        fds.close_all(first.fds)

    def read_door(self, events: int) -> None:
        """Read one message from the door."""
        try:
            got = fds.receive(self.door)
        except BlockingIOError:
            return
        if not got.data:
            if events & EPOLLHUP:
                # Nobody holds a sending end: every process of the tree is dead, or has closed all its fds.
                self.door_open = False
                self.loop.forget(self.door.fileno())
                if not self.root_dead and self.root_stack and pids.read_start_stack(self.root.pid) != self.root_stack:
                    self.bury_root(0)  # it has become another program (M1)
            return
        try:
            self.serve_message(got)
        except fds.NoSocket:
            fds.close_all(got.fds)

    def serve_message(self, got: fds.Received) -> None:
        """Do what the message asks. Nonsense, or fds that did not all arrive, cost the sender its message."""
        try:
            message = wire.decode(got.data)
            protocol.step(protocol.DOOR, "open", protocol.UP, message)
        except ValueError:
            fds.close_all(got.fds)
            return
        if isinstance(message, messages.Hello):
            self.generations.serve_hello(message, got)
        elif isinstance(message, messages.Register):
            self.book.write(messages.Entered(message.kind, message.name, got.pid, self.get_title(got.pid)))
        elif isinstance(message, messages.Unregister):
            self.book.write(messages.Dropped(message.kind, message.name, 0))
        elif isinstance(message, messages.StdlibTrackerRuns):
            self.book.write(message)
        elif isinstance(message, messages.Untrack):
            self.holders.let_go(message, got.pid)
        elif isinstance(message, messages.Hung):
            self.generations.end_if_hung(message.pid)
        elif isinstance(message, messages.Return):
            self.generations.take_back(message, got)
        elif isinstance(message, messages.GiveUp):
            if len(got.fds) == 2:
                self.generations.give_up(got.fds[0], fds.adopt_socket(got.fds.pop()))
        elif len(got.fds) == 1:
            self.serve_question(message, got)
        fds.close_all(got.fds)

    def serve_question(self, message: messages.Message, got: fds.Received) -> None:
        """Serve a message that brings one fd: for an answer, or to name its sender."""
        fd = got.fds.pop()
        if isinstance(message, messages.Track):
            if pids.read_pid(fd) == got.pid:
                self.holders.hold(message, got.pid, fd, self.get_title(got.pid))
            else:
                os.close(fd)
        elif isinstance(message, messages.Ask):
            self.serve_ask(message.pid, fds.adopt_socket(fd))
        else:
            send_answer(fds.adopt_socket(fd), messages.NamesSwept(self.sweep()))

    def get_title(self, pid: int) -> str:
        """Give the title of a process that registers, looked up once."""
        if pid not in self.titles:
            self.titles[pid] = wire.fit(names.read_title(pid), 1000)
        return self.titles[pid]

    def serve_ask(self, pid: int, answer: fds.socket) -> None:
        """Say what became of a process, now or when it is dead."""
        if pid not in self.orphans.fates and not is_child(pid):
            # Its template may be dying at this moment: its children become ours only when it is dead.
            for template in [template for template in self.generations.by_pid.values() if template.alive]:
                self.generations.check_death(template)
            self.reap_all()
        self.orphans.serve_ask(pid, answer)

    # -- deaths

    def listen_to_deaths(self) -> int:
        """Have SIGCHLD wake the loop."""
        import _signal

        awake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        _signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signals.set_disposition(signals.CHILD_DIED, lambda number, frame: None)
        self.loop.watch(awake, self.reap)
        os.write(wake, b"!")  # what died before we listened
        return awake

    def reap(self, _events: int) -> None:
        """Children have died."""
        os.read(self.awake, 4096)
        self.reap_all()

    def reap_all(self) -> None:
        """Reap templates and orphans."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            template = self.generations.by_pid.get(pid)
            if template is not None and template.alive:
                self.generations.bury_template(template, status)
            else:
                self.orphans.keep_fate(pid, status, usage, self.generations.list_stacks())
