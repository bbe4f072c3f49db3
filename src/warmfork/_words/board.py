"""The board: a template's record of itself and its children, laid out in memory that survives it.

The template writes it, each child writes the step of its own birth, the tracker and `warmfork ps` read it, also when
the template is dead. Writing a slot costs 0.2 us, so it is done for each child.

Whoever reads takes nothing on trust: a wild pointer of one child may have written here, or somebody who wants others to
be ended. A row that can't be true is left out.
"""

from __future__ import annotations

from _struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from mmap import mmap

MAGIC = b"warmfork"
VERSION = 3
HEAD = Struct("<8sqqqqqqqq")
"""Magic, version, generation, template pid, phase, item being preloaded, starts, born and in this phase since (ns,
monotonic)."""
REPORT_AT, REPORT_SIZE = 4096, 61_440
SLOTS_AT, SLOTS = 65_536, 32_768
SLOT = Struct("<qqqqqq80s")  # pid, client pid, kill, step of birth, since (ns, monotonic), forked (ns since boot), name
STEP = Struct("<qq")
NAME_AT, NAME_SIZE = 48, 80
SIZE = SLOTS_AT + SLOTS * SLOT.size
"""4 MiB of address space; memory only where written."""

MOST_PIDS = 1 << 22
"""Pids are below that on any Linux (PID_MAX_LIMIT)."""
MOST_STEPS = 32
"""Steps of a birth are below that."""

PRELOADING, SERVING, ENDING, FORKING = 1, 2, 3, 4
PHASES = {PRELOADING: "preloading", SERVING: "serving", ENDING: "ending", FORKING: "serving"}


BORN = -1
"""The step of a child before its first: forked, and in the at-fork handlers of what was preloaded."""


def make_name(ledger: int) -> str:
    """Give the name of the boards of a tree, by which a tracker finds them again: `ledger` is its ledger's inode."""
    return f"warmfork-board-{ledger:016x}"


def encode_name(name: str) -> bytes:
    """Give a name as it fits on the board."""
    return name.encode("utf-8", "replace")[: NAME_SIZE - 1]


class Row:
    """A child as the board shows it. Raises ValueError for numbers that can't be true."""

    __slots__ = ("client", "forked_ns", "kill", "name", "pid", "since_ns", "step")

    def __init__(self, pid: int, client: int, kill: int, step: int, since_ns: int, forked_ns: int, name: bytes) -> None:
        if not (0 < pid < MOST_PIDS and 0 < client < MOST_PIDS and BORN <= step < MOST_STEPS and kill in (0, 1)):
            raise ValueError("no child can have such a row")
        if since_ns < 0 or forked_ns < 0:
            raise ValueError("no child was forked before the machine was started")
        self.pid, self.client, self.kill, self.step = pid, client, kill, step
        self.since_ns, self.forked_ns = since_ns, forked_ns
        self.name = name.rstrip(b"\0").decode("utf-8", "replace")


class Board:
    """A view of the board in `memory`."""

    def __init__(self, memory: mmap) -> None:
        self.memory = memory
        self.free: list[int] = []
        self.used = 0

    def begin(self, generation: int, pid: int, now_ns: int) -> None:
        """Write the head of a new board."""
        HEAD.pack_into(self.memory, 0, MAGIC, VERSION, generation, pid, PRELOADING, 0, 0, now_ns, now_ns)

    def write_phase(self, phase: int, now_ns: int = 0) -> None:
        """Say what the template is doing, and since when."""
        self.memory[64:72] = now_ns.to_bytes(8, "little")
        self.memory[32:40] = phase.to_bytes(8, "little")

    def write_item(self, index: int) -> None:
        """Say which item of the preload list is being loaded."""
        self.memory[40:48] = index.to_bytes(8, "little")

    def write_starts(self, count: int) -> None:
        """Say how many children were started so far."""
        self.memory[48:56] = count.to_bytes(8, "little")

    def write_report(self, text: str) -> None:
        """Write the preload report, cut to its room."""
        data = text.encode("utf-8", "replace")[: REPORT_SIZE - 8]
        self.memory[REPORT_AT : REPORT_AT + 8] = len(data).to_bytes(8, "little")
        self.memory[REPORT_AT + 8 : REPORT_AT + 8 + len(data)] = data

    def take_slot(self) -> int:
        """Give the number of a free slot, or -1 where all are taken."""
        if self.free:
            return self.free.pop()
        if self.used == SLOTS:
            return -1
        self.used += 1
        return self.used - 1

    def write_slot(self, slot: int, client: int, kill: int, now_ns: int, boot_ns: int, name: bytes) -> None:
        """Enter a child that is about to be forked: from then on its step is its own to write."""
        SLOT.pack_into(self.memory, SLOTS_AT + slot * SLOT.size, 0, client, kill, BORN, now_ns, boot_ns, name)

    def write_pid(self, slot: int, pid: int) -> None:
        """The child exists: readers see it from here on."""
        at = SLOTS_AT + slot * SLOT.size
        self.memory[at : at + 8] = pid.to_bytes(8, "little")

    def write_child(self, slot: int, kill: int, name: bytes) -> None:
        """The spare in this slot is a child now, of this policy and name."""
        at = SLOTS_AT + slot * SLOT.size
        self.memory[at + 16 : at + 24] = kill.to_bytes(8, "little")
        self.memory[at + NAME_AT : at + NAME_AT + NAME_SIZE] = name.ljust(NAME_SIZE, b"\0")

    def write_step(self, slot: int, step: int, now_ns: int) -> None:
        """Say in which step of its birth the child in this slot is, and since when."""
        STEP.pack_into(self.memory, SLOTS_AT + slot * SLOT.size + 24, step, now_ns)

    def read_row(self, slot: int) -> Row | None:
        """Give what the board says of the child in this slot, or None where that can't be true."""
        try:
            return Row(*SLOT.unpack_from(self.memory, SLOTS_AT + slot * SLOT.size))
        except ValueError:
            return None

    def free_slot(self, slot: int) -> None:
        """The child in this slot is dead and reaped."""
        at = SLOTS_AT + slot * SLOT.size
        self.memory[at : at + 8] = bytes(8)
        self.free.append(slot)

    def read_head(self) -> tuple[int, int, int, int, int, int]:
        """Give generation, template pid, phase, item being preloaded, starts, born (ns, monotonic). Raises ValueError
        where this is no board, or says what can't be true."""
        magic, version, *rest = HEAD.unpack_from(self.memory, 0)
        if magic != MAGIC or version != VERSION:
            raise ValueError("no board of this version")
        generation, pid, phase, item, starts, born, _ = rest
        if not 0 < pid < MOST_PIDS or min(generation, item, starts, born) < 0:
            raise ValueError("no template can have such a board")
        return generation, pid, phase, item, starts, born

    def read_starts(self) -> int:
        """Give how many children were started, also of a board that was never begun."""
        return int.from_bytes(self.memory[48:56], "little")

    def read_phase(self) -> tuple[int, int]:
        """Give what the template is doing, and since when (ns, monotonic)."""
        *_, phase, _, _, _, since = HEAD.unpack_from(self.memory, 0)
        return phase, since

    def read_report(self) -> str:
        """Give the preload report: lines of milliseconds, KiB and item, separated by tabs."""
        size = int.from_bytes(self.memory[REPORT_AT : REPORT_AT + 8], "little")
        size = min(size, REPORT_SIZE - 8)
        return self.memory[REPORT_AT + 8 : REPORT_AT + 8 + size].decode("utf-8", "replace")

    def rows(self) -> Iterator[Row]:
        """Give the children that are on the board: slots are filled from the front, so stop at the first never used."""
        for slot in range(SLOTS):
            pid, _, _, _, since, *_ = SLOT.unpack_from(self.memory, SLOTS_AT + slot * SLOT.size)
            row = self.read_row(slot) if pid else None
            if row is not None:
                yield row
            elif not pid and not since:
                return
