"""The ledger: which names exist, who made them, who holds them; and what the program is to be told.

It is a file of records in memory. The program begins it, and says whose tree it is; the tracker writes on, and the one
that the program starts when that is killed replays it. A record is 4 bytes of length and a message; one that was cut
short by a death is the last, and none.
"""

from __future__ import annotations

from warmfork._words import messages, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

START = 16
"""Where the first ledger begins. Before that: where the one that counts begins, in 8 bytes, and whether a tracker has
served, in one."""

LENGTH = 4


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
