"""Names that go with their holders: watched by pidfd, removed when the last of them is dead, and that is reported."""

from __future__ import annotations

import os

from warmfork._machine import pids
from warmfork._tracker import names
from warmfork._words import messages, outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from warmfork._tracker.book import Book
    from warmfork._tracker.loop import Loop

WARNING = 30


class Holders:
    """Processes that hold names."""

    def __init__(self, loop: Loop, book: Book) -> None:
        self.loop = loop
        self.book = book
        self.pidfds: dict[int, int] = {}
        # What the tracker before us knew. Whoever died between it and us is found dead here.
        holders = {pid: since for entry in book.ledger.entries.values() for pid, since in (entry.holders or {}).items()}
        for pid, since in holders.items():
            pidfd = pids.open_same(pid, since)
            if pidfd < 0:
                self.bury(pid, None)
            else:
                self.watch(pid, pidfd)

    def watch(self, pid: int, pidfd: int) -> None:
        """Watch this holder. The pidfd is ours from now on."""
        self.pidfds[pid] = pidfd
        self.loop.watch(pidfd, lambda _events: self.bury_holder(pid))

    def hold(self, message: messages.Track, pid: int, pidfd: int, title: str) -> None:
        """This process holds this name. The pidfd is ours from now on."""
        since = pids.read_since(pid)
        self.book.write(messages.NameHeld(message.kind, message.name, pid, since, title))
        if pid in self.pidfds:
            os.close(pidfd)
        else:
            self.watch(pid, pidfd)

    def let_go(self, message: messages.Untrack, pid: int) -> None:
        """This process holds this name no longer."""
        entry = self.book.ledger.entries.get((message.kind, message.name))
        of_the_tree = entry is not None and entry.holders is None
        self.book.write(messages.Dropped(message.kind, message.name, 0 if of_the_tree else pid))
        if not self.book.ledger.list_held(pid):
            self.forget(pid)

    def forget(self, pid: int) -> None:
        """This process holds nothing any longer."""
        pidfd = self.pidfds.pop(pid, -1)
        if pidfd >= 0:
            self.loop.forget(pidfd)
            os.close(pidfd)

    def bury_holder(self, pid: int) -> None:
        """A holder is dead."""
        status = pids.read_zombie_status(self.pidfds[pid])  # before its parent has reaped it
        if status is None:
            status = pids.ask_status(self.pidfds[pid])
        self.forget(pid)
        self.bury(pid, status)

    def bury(self, pid: int, status: int | None) -> None:
        """Remove the names that nobody holds any longer, and report who left them."""
        removed: dict[str, list[str]] = {}
        for entry in self.book.ledger.list_held(pid):
            last = entry.holders is not None and len(entry.holders) == 1
            self.book.write(messages.Dropped(entry.kind, entry.name, pid))
            if last and names.still_exists(entry):
                names.remove(entry, lambda why: self.book.report(WARNING, why))
                removed.setdefault(entry.title, []).append(f"{entry.kind} {entry.name!r}")
        for title, these in removed.items():
            how = f", {outcome.read_status(status)!r}" if status is not None and status >= 0 else ""
            self.book.report(WARNING, f"removed what pid {pid} ({title or 'unknown'}{how}) left: {', '.join(these)}")
