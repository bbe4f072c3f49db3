"""The names of a tree, made of the records in its ledger."""

from __future__ import annotations

from warmfork._words import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Entry:
    """A name in the ledger. `holders` are processes, pid and start (ns since boot), for a name that is to go with the
    last of them; None for one that stays until its owner removes it, or the tree ends. `folder` identifies the folder
    that a file or folder is in, whatever its path means by then: (st_dev, st_ino)."""

    __slots__ = ("folder", "holders", "kind", "maker", "name", "title")

    def __init__(
        self,
        kind: str,
        name: str,
        maker: int,
        title: str,
        folder: tuple[int, int],
        holders: dict[int, int] | None = None,
    ) -> None:
        self.kind, self.name, self.maker, self.title = kind, name, maker, title
        self.folder, self.holders = folder, holders


class KeptNames:
    """The names of a tree: a set, so that whoever unregisters one clears it."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str], Entry] = {}
        self.mixed = False

    def take(self, record: messages.Message) -> None:
        """Enter a record."""
        if isinstance(record, messages.Entered):
            # Its first maker stays the one who is named.
            key = record.kind, record.name
            folder = record.device, record.inode
            self.entries.setdefault(key, Entry(*key, record.maker, record.title, folder))
        elif isinstance(record, messages.NameHeld):
            key = record.kind, record.name
            folder = record.device, record.inode
            entry = self.entries.setdefault(key, Entry(*key, record.holder, record.title, folder, {}))
            if entry.holders is not None:  # a name that is the tree's stays so
                entry.holders[record.holder] = record.since
        elif isinstance(record, messages.Dropped):
            self.drop(record)
        elif isinstance(record, messages.StdlibTrackerRuns):
            self.mixed = True

    def drop(self, record: messages.Dropped) -> None:
        """A name has lost a holder, or all. An unknown name is no error (row 61)."""
        key = record.kind, record.name
        entry = self.entries.get(key)
        if entry is None:
            return
        if record.holder and entry.holders is not None:
            entry.holders.pop(record.holder, None)
            entry.maker = next(iter(entry.holders), entry.maker)  # who is named for it now
        if not record.holder or not entry.holders:
            del self.entries[key]

    def list_held(self, pid: int) -> list[Entry]:
        """List the names that are to go with their holders, of which this process is one."""
        return [entry for entry in self.entries.values() if entry.holders and pid in entry.holders]

    def records(self) -> Iterator[messages.Message]:
        """Give records that make this one: what a compacted ledger holds of it."""
        if self.mixed:
            yield messages.StdlibTrackerRuns()
        for entry in self.entries.values():
            if entry.holders is None:
                yield messages.Entered(entry.kind, entry.name, entry.maker, entry.title, *entry.folder)
            else:
                for holder, since in entry.holders.items():
                    yield messages.NameHeld(entry.kind, entry.name, holder, since, entry.title, *entry.folder)
