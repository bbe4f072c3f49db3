"""Names that go with their holders: watched by pidfd, removed when the last of them is dead, and that is reported."""

from __future__ import annotations

import os
from stat import S_ISDIR

from warmfork._machine import fds, pids, sockets
from warmfork._names import removing
from warmfork._names.folders import KINDS
from warmfork._names.kept import Entry
from warmfork._words import messages, outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from warmfork._machine.loop import Loop
    from warmfork._names.folders import Folders
    from warmfork._names.kept import KeptNames
    from warmfork._names.sweeper import Sweeper
    from warmfork._tracker.book import Book

WARNING = 30


class Holders:
    """Processes that hold names."""

    def __init__(self, loop: Loop, book: Book, kept: KeptNames, folders: Folders, sweeper: Sweeper) -> None:
        self.loop, self.book, self.kept, self.folders, self.sweeper = loop, book, kept, folders, sweeper
        self.pidfds: dict[int, fds.Fd] = {}

    def succeed(self) -> None:
        """Watch those that the tracker before us knew. Whoever died between it and us is found dead here."""
        entries = self.kept.entries.values()
        for pid, since in {key: since for entry in entries for key, since in (entry.holders or {}).items()}.items():
            pidfd = fds.Fd(pids.open_same(pid, since))
            if pidfd:
                self.loop.guard(self.watch, pid, pidfd, None)
            else:
                self.loop.guard(self.bury, pid, None, None)

    def watch(self, pid: int, pidfd: fds.Fd) -> None:
        """Watch this holder. Raises OSError."""
        self.loop.watch(pidfd.fileno(), lambda _events: self.bury_holder(pid))
        self.pidfds[pid] = pidfd

    def hold(self, message: messages.Track, got: sockets.Received, title: str) -> None:
        """The sender holds this name. Raises ValueError, OSError, and has no name of it then."""
        if not got.fds or pids.read_pid(got.fds[0]) != got.pid:
            raise ValueError("the pidfd is not on its sender")
        folder = self.folders.keep(message.kind, message.name, got)
        if got.pid not in self.pidfds:
            self.watch(got.pid, got.take())
        since = pids.read_since(got.pid)
        self.book.write(messages.NameHeld(message.kind, message.name, got.pid, since, title, *folder))

    def let_go(self, message: messages.Untrack, pid: int) -> None:
        """This process holds this name no longer."""
        entry = self.kept.entries.get((message.kind, message.name))
        of_the_tree = entry is not None and entry.holders is None
        self.book.write(messages.Dropped(message.kind, message.name, 0 if of_the_tree else pid))
        if not self.kept.list_held(pid):
            self.forget(pid)

    def forget(self, pid: int) -> None:
        """This process holds nothing any longer."""
        pidfd = self.pidfds.pop(pid, None)
        if pidfd is not None:
            self.loop.forget(pidfd.fileno())
            pidfd.close()

    def bury_holder(self, pid: int) -> None:
        """A holder is dead."""
        status = pids.find_status(self.pidfds[pid].fileno())
        self.forget(pid)
        self.bury(pid, status)

    def bury(self, pid: int, status: int | None) -> None:
        """Remove the names that nobody holds any longer, and report who left them. A name is struck off when that is
        done: whoever succeeds us in between does it again."""
        lost = []
        for entry in self.kept.list_held(pid):
            if entry.holders is not None and len(entry.holders) == 1:
                lost.append(entry)
            else:
                self.book.write(messages.Dropped(entry.kind, entry.name, pid))
        if lost:
            to_go = [self.put_aside(entry, pid) for entry in lost]
            self.sweeper.run(
                lambda: [removing.remove(entry, self.folders) for entry in to_go],
                self.folders.list_fds(),
                lambda outcomes: self.report(pid, status, lost, to_go, outcomes),
            )

    def put_aside(self, entry: Entry, pid: int) -> Entry:
        """Give what nobody holds any longer another name in its folder, now: whoever makes and holds one of its former name
        from here on keeps it, while the sweeper removes this one. Gives the entry of the new name, which is in the ledger
        for a successor; or this one, where it can't be renamed, or is something else than was tracked."""
        if entry.kind not in KINDS:
            return entry
        name, path = os.path.basename(entry.name), os.path.dirname(entry.name)
        aside = Entry(entry.kind, f"{path}/.warmfork-{os.urandom(8).hex()}", entry.maker, entry.title, entry.folder)
        try:
            with self.folders.open(entry) as folder:
                at = folder.fileno()
                mode = os.stat(name, dir_fd=at, follow_symlinks=False).st_mode
                if S_ISDIR(mode) != (entry.kind == "folder"):
                    return entry
                self.book.write(
                    messages.Entered(aside.kind, aside.name, aside.maker, aside.title, entry.folder[0], entry.folder[1])
                )
                os.rename(name, os.path.basename(aside.name), src_dir_fd=at, dst_dir_fd=at)
        except OSError:
            self.book.write(messages.Dropped(aside.kind, aside.name, 0))
            return entry
        self.book.write(messages.Dropped(entry.kind, entry.name, pid))
        return aside

    def report(self, pid: int, status: int | None, lost: list[Entry], to_go: list[Entry], outcomes: list[str]) -> None:
        """The sweeper has removed what could be: strike it off, and report it. Where it did not come to its end, the names
        stay in the ledger, and are tried again when the tree ends."""
        removed: dict[str, list[str]] = {}
        for entry, gone, said in zip(lost, to_go, outcomes, strict=False):
            self.book.write(messages.Dropped(gone.kind, gone.name, pid if gone is entry else 0))
            if said == removing.REMOVED:
                removed.setdefault(entry.title, []).append(f"{entry.kind} {entry.name!r}")
            elif said != removing.GONE:
                where = f", which is {gone.name!r} by now" if gone is not entry else ""
                self.book.report(WARNING, f"resource_tracker: {entry.name!r}{where}: {said}")
        if len(outcomes) < len(lost):
            self.book.report(
                WARNING, f"could not remove what pid {pid} left: it took too long; it is removed when the program ends"
            )
        for title, these in removed.items():
            how = f", {outcome.read_status(status)!r}" if status is not None and status >= 0 else ""
            self.book.report(WARNING, f"removed what pid {pid} ({title or 'unknown'}{how}) left: {', '.join(these)}")
