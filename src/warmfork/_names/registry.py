"""The names of a tree: who may have which one kept, in whose name it is removed, and their end with the tree's.

Names are written down in the ledger before anything is done about them.
"""

from __future__ import annotations

from warmfork._machine import pids, rights, sockets
from warmfork._names import removing
from warmfork._names.folders import KINDS, Folders
from warmfork._names.holders import Holders
from warmfork._names.kept import KeptNames
from warmfork._names.sweeper import Sweeper
from warmfork._tracker.answers import send_answer
from warmfork._words import messages, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from warmfork._machine.loop import Loop
    from warmfork._names.kept import Entry
    from warmfork._tracker.book import Book

WARNING = 30

MOST_TITLES = 1000
"""Processes of which something is remembered before all of it is forgotten."""


class Names:
    """What a tracker keeps besides processes."""

    def __init__(self, loop: Loop, book: Book) -> None:
        root = self.root = book.get_root()
        self.root_dead = False
        self.book = book
        self.titles = {(root.pid, root.since): removing.read_title(root.pid) or root.name}
        self.confined: set[tuple[int, int]] = set()
        self.kept = KeptNames()
        book.give(self.kept)
        self.folders = Folders(self.kept)
        self.sweeper = Sweeper(loop)
        self.holders = Holders(loop, book, self.kept, self.folders, self.sweeper)

    def succeed(self) -> None:
        """Go on where the tracker before this one has ended."""
        self.holders.succeed()

    def serve(self, message: messages.Message, got: sockets.Received) -> None:
        """Do what a process of ours asks."""
        if isinstance(message, messages.Register | messages.Track) and not self.may_remove(message, got.pid):
            return
        if isinstance(message, messages.Register):
            folder = self.folders.keep(message.kind, message.name, got)
            title = self.get_title(got.pid)
            self.book.write(messages.Entered(message.kind, message.name, got.pid, title, *folder))
        elif isinstance(message, messages.Unregister):
            self.book.write(messages.Dropped(message.kind, message.name, 0))
        elif isinstance(message, messages.StdlibTrackerRuns):
            self.book.write(message)
        elif isinstance(message, messages.Track):
            self.holders.hold(message, got, self.get_title(got.pid))
        elif isinstance(message, messages.Untrack):
            self.holders.let_go(message, got.pid)
        elif isinstance(message, messages.Sweep) and len(got.fds) == 1 and got.pid == self.root.pid:
            self.sweep(sockets.take_answer(got))

    def may_remove(self, message: messages.Register | messages.Track, pid: int) -> bool:
        """May this process remove such a name itself? We do it with our rights, and a process may have given up some of its
        own. Asked each time, but for semaphores of this tree. Where it may not, that is reported, once for each process.
        The program is believed, which may be dead by now: it could write in the ledger what it wants."""
        kind, prefix = message.kind, self.root.prefix
        if pid == self.root.pid and pids.read_since(pid) in (0, self.root.since):
            return True
        if kind == "semaphore" and prefix and f"sem.{message.name.lstrip('/')}".startswith(prefix):
            return True
        difference = rights.find_less_over_files(pid, kind not in KINDS)
        key = pid, pids.read_since(pid)
        if difference and key not in self.confined:
            if len(self.confined) >= MOST_TITLES:
                self.confined.clear()
            self.confined.add(key)
            self.book.report(
                WARNING,
                f"pid {pid} ({self.get_title(pid) or 'unknown'}) may not have files removed by us that it tracks "
                f"({message.name[:1000]!r} is the first): it has other rights than we have: {difference[:4000]}",
            )
        return not difference

    def list_left(self) -> list[Entry]:
        """List the names that are to be removed now: the tree's, or all, where the program is dead."""
        return [entry for entry in self.kept.entries.values() if entry.holders is None or self.root_dead]

    def sweep(self, answer: sockets.socket) -> None:
        """Have all names removed, and say how many were left."""
        left, mixed = self.list_left(), self.kept.mixed

        def tell(said: list[str]) -> None:
            send_answer(answer, messages.NamesSwept(int(said[0]) if said else len(left)))

        self.sweeper.run(lambda: [str(removing.sweep(left, mixed, self.folders))], self.folders.list_fds(), tell)
        for entry in left:
            self.book.write(messages.Dropped(entry.kind, entry.name, 0))

    def get_title(self, pid: int) -> str:
        """Give the title of a process that registers, looked up once for each."""
        key = pid, pids.read_since(pid)
        if key not in self.titles:
            if len(self.titles) >= MOST_TITLES:
                self.titles.clear()
            self.titles[key] = wire.fit(removing.read_title(pid), 1000)
        return self.titles[key]

    # -- sweepers, and the end

    def is_busy(self) -> bool:
        """Is there a sweeper that is to come to its end?"""
        return bool(self.sweeper.jobs)

    def get_due(self) -> float | None:
        """Give when the next sweeper is to be killed, by monotonic(), or None."""
        return self.sweeper.get_due()

    def do_due(self) -> None:
        """Kill the sweepers that hang."""
        self.sweeper.kill_late()

    def bury(self, pid: int) -> bool:
        """A child of ours is dead: was it a sweeper?"""
        return self.sweeper.forget(pid)

    def bury_root(self) -> None:
        """The program is dead: no name is anybody's any longer once the tree has ended."""
        self.root_dead = True

    def end(self) -> int:
        """The tree has ended. Remove what is left, also what was never registered, and what dead trees have left. Gives how
        many names were left."""
        left = removing.sweep(self.list_left(), self.kept.mixed, self.folders)
        removing.sweep_prefix(self.root.prefix)
        removing.sweep_dead_trees()
        return left
