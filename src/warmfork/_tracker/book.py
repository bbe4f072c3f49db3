"""The ledger as the tracker keeps it: in a file that outlives it, under a lock that says who the tracker is."""

from __future__ import annotations

import os

from warmfork._machine import memfds, memory
from warmfork._words import ledger as ledger_
from warmfork._words import messages, wire

ROOM = 1 << 20
"""Bytes that the ledger grows by at least before it is written anew, without what is past."""

REPORTS = 50
"""Reports that are kept for a program that has not read them."""


TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    class Keeper(Protocol):
        """Who knows what records mean that a tracker has no use for."""

        def take(self, record: messages.Message) -> None:
            """Enter a record."""

        def records(self) -> Iterable[messages.Message]:
            """Give records that say all that counts of those."""


class Book:
    """The ledger, each change written down before anything is done about it. Its file is under the lock of whoever is
    the tracker, so this process closes no fd on it, which would give the lock back."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.root: messages.Root | None = None
        self.others: list[messages.Message] = []  # which mean something to whoever keeps names
        self.keeper: Keeper | None = None
        self.reports: list[messages.Reported] = []
        self.full = False
        data = memfds.read_all(fd)
        self.start = int.from_bytes(data[:8], "little") or ledger_.START
        self.end = self.start
        for end, record in ledger_.read_records(data[self.start :]):
            self.end = self.start + end
            self.take(record)
        self.compacted = self.end

    def get_root(self) -> messages.Root:
        """Give whose ledger this is."""
        if self.root is None:
            raise RuntimeError("the tracker's list does not say whose it is")
        return self.root

    def give(self, keeper: Keeper) -> None:
        """Have the records that are not ours known to this one from now on."""
        self.keeper = keeper
        for record in self.others:
            keeper.take(record)
        self.others.clear()

    def take(self, record: messages.Message) -> None:
        """Enter a record in what we know."""
        if isinstance(record, messages.Reported):
            self.reports = [*self.reports[-REPORTS:], record]
        elif isinstance(record, messages.Root):
            self.root = record
        elif self.keeper is not None:
            self.keeper.take(record)
        else:
            self.others.append(record)

    def write(self, record: messages.Message) -> None:
        """Enter a record, and write it down. Where no more can be written (a limit on the size of files, no memory), it
        is entered all the same: a tracker that goes on without a successor's knowledge is better than none."""
        try:
            self.end += self.append(ledger_.write_record(record), self.end)
        except OSError as error:
            if not self.full:
                self.full = True
                self.take(
                    messages.Reported(self.get_next(), 30, f"the tracker's list can't be written: {error.strerror}")
                )
        self.take(record)
        # As much again as there was: or many names would be written again and again.
        if self.end - self.compacted > max(ROOM, self.compacted - self.start):
            self.compact()

    def append(self, data: bytes, at: int) -> int:
        """Write at this place of the file. Gives how much it was. Raises OSError."""
        memfds.write_all(self.fd, data, at)
        return len(data)

    def compact(self) -> None:
        """Write what counts once more, behind all else; then say that the ledger begins there, and let go of the rest.
        Whoever is killed in between leaves a ledger that is whole."""
        start = self.end
        end = start
        others = self.keeper.records() if self.keeper is not None else self.others
        try:
            for record in (self.get_root(), *others, *self.reports):
                end += self.append(ledger_.write_record(record), end)
            os.pwrite(self.fd, start.to_bytes(8, "little"), 0)
        except OSError:
            self.compacted = self.end  # it is tried again when as much has been added
            return
        memory.punch_hole(self.fd, ledger_.START, start - ledger_.START)
        self.start, self.end, self.compacted = start, end, end

    def report(self, level: int, text: str) -> None:
        """Have the program log this: it reads the ledger at its next call."""
        self.write(messages.Reported(self.get_next(), level, wire.fit(text, 8000)))

    def get_next(self) -> int:
        """Give the number of the next report."""
        return self.reports[-1].number + 1 if self.reports else 1
