"""The ledger: which names exist, who made them, who holds them; and what the program is to be told.

It is a file of records in memory. The program begins it, and says whose tree it is; the tracker writes on, and the one
that the program starts when that is killed replays it. A record is 4 bytes of length and a message; one that was cut
short by a death is the last, and none. Names are a set: whoever unregisters one clears it.
"""

from __future__ import annotations

from warmfork._words import messages, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

START = 16
"""Where the first ledger begins. Before that: where the one that counts begins, in 8 bytes, and whether a tracker has
served, in one."""

SERVED_AT = 8

LENGTH = 4


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


class Ledger:
    """The names of a tree."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str], Entry] = {}
        self.root: messages.Root | None = None
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
        elif isinstance(record, messages.Root):
            self.root = record

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
        """Give records that make this ledger: what a compacted file holds."""
        if self.root is not None:
            yield self.root
        if self.mixed:
            yield messages.StdlibTrackerRuns()
        for entry in self.entries.values():
            if entry.holders is None:
                yield messages.Entered(entry.kind, entry.name, entry.maker, entry.title, *entry.folder)
            else:
                for holder, since in entry.holders.items():
                    yield messages.NameHeld(entry.kind, entry.name, holder, since, entry.title, *entry.folder)


def write_record(record: messages.Message) -> bytes:
    """Give a record as bytes."""
    data = wire.encode(record)
    return len(data).to_bytes(LENGTH, "little") + data


def read_records(data: bytes) -> Iterator[tuple[int, messages.Message]]:
    """Give the records in a piece of ledger, each with the place where it ends. Stops at one that is cut short."""
    at = 0
    while at + LENGTH <= len(data):
        size = int.from_bytes(data[at : at + LENGTH], "little")
        end = at + LENGTH + size
        if not size or end > len(data):
            return
        try:
            record = wire.decode(data[at + LENGTH : end])
        except wire.WireError:
            return
        yield end, record
        at = end
