"""The census: which programs of this user have warmfork's processes, and which those are.

Nothing is asked of the processes themselves: /proc says which there are, and the boards, read through /proc/PID/fd of
whoever holds them, say whose child is whose. So it sees stopped and hanging trees too. What ends while it looks is left
out. Whoever runs as this user can hold a file that looks like a board: each number on it may be any number.
"""

from __future__ import annotations

import math
import os
import re
import time
from dataclasses import dataclass, field

from warmfork._machine import fds, pids
from warmfork._words import board as board_
from warmfork._words import ledger as ledger_
from warmfork._words import messages
from warmfork.cli import share
from warmfork.cli.tasks import read_tasks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from warmfork._words.board import Board, Row

BOARD = re.compile(r"/memfd:warmfork-board-[0-9a-f]+ \(deleted\)|/.*/warmfork-board-[0-9a-f-]+ \(deleted\)")
"""What a board's fd is open on: a memfd, or a file in its place."""

WAITS = 1
"""The step of birth in which a child waits for its feed: a spare stays there until it is needed."""

LEDGER_PART = 1 << 20
"""Bytes of a ledger in which its root is looked for: it is its first record."""


@dataclass
class ProcessRecord:
    """A process, with the fields of `warmfork ps --json`, which says what they mean."""

    role: str
    pid: int
    title: str = ""
    name: str | None = None
    parent: int | None = None
    template: int | None = None
    state: str = "running"
    generation: int | None = None
    age_s: float | None = None
    cpu_s: float | None = None
    rss_mib: float | None = None
    pss_mib: float | None = None
    uss_mib: float | None = None
    shared_mib: float | None = None
    huge_mib: float | None = None
    starts: int | None = None
    task: dict[str, Any] | None = None
    preload: list[dict[str, Any]] | None = None
    below: list[ProcessRecord] = field(default_factory=list)


@dataclass
class HeldBoard:
    """A board, and the processes that hold it."""

    board: Board
    rows: dict[int, Row]
    holders: set[int]


class Census:
    """All processes as they were at one moment, and what is made of them."""

    def __init__(self) -> None:
        import psutil

        wanted = ["cmdline", "cpu_times", "create_time", "memory_info", "ppid", "status", "uids"]
        self.boot = psutil.boot_time()
        self.monotonic = time.monotonic()  # first: so a process is never younger than what it wrote on its board
        self.now = time.clock_gettime(time.CLOCK_BOOTTIME)
        self.seen: dict[int, dict[str, Any]] = {
            process.pid: process.info for process in psutil.process_iter(wanted, ad_value=None)
        }
        self.titles = {pid: " ".join(info["cmdline"] or ()).strip() for pid, info in self.seen.items()}
        me = os.geteuid()
        mine = [pid for pid, info in self.seen.items() if info["uids"] and info["uids"].effective == me]
        self.ours = [pid for pid in mine if self.titles[pid].startswith("warmfork: ")]
        self.files = {pid: fds.list_files(pid) for pid in mine}  # programs hold the boards of their templates too
        self.boards = self.read_boards()
        self.tasks = read_tasks(self.files)
        self.heads = {held.board.read_head()[1] for held in self.boards}
        self.children = {pid for held in self.boards for pid in held.rows}
        self.records: dict[int, ProcessRecord] = {}

    def read_boards(self) -> list[HeldBoard]:
        """Read each board once, whoever holds it."""
        found: dict[tuple[int, int], HeldBoard] = {}
        for pid, files in self.files.items():
            for fd, target in (files or {}).items():
                read = read_file(pid, fd, found) if BOARD.fullmatch(target) else None
                if read is None:
                    continue
                identity, data = read
                if identity not in found:
                    board = board_.Board(data)  # type: ignore[arg-type]  # it is only read
                    try:
                        board.read_head()
                    except ValueError:  # not begun yet, or another version's
                        continue
                    found[identity] = HeldBoard(board, {row.pid: row for row in board.rows()}, set())
                found[identity].holders.add(pid)
        return list(found.values())

    def get_age(self, pid: int) -> float | None:
        """Give the seconds since a process was started."""
        born: float | None = self.seen[pid]["create_time"] if pid in self.seen else None
        # psutil adds the time of the boot, which the kernel tells in whole seconds.
        return self.now - (born - self.boot) if born is not None else None

    def collect(self, everything: bool = False) -> list[ProcessRecord]:
        """Give the tops of the trees."""
        for pid in self.ours:
            if self.is_tracker(pid):
                self.add_tracker(pid)
        for held in self.boards:
            self.add_template(held, everything)
        for pid in self.ours:
            if pid not in self.records and pid not in self.heads:
                self.add_by_title(pid)
        return self.arrange()

    def arrange(self) -> list[ProcessRecord]:
        """Hang each process below the one it belongs to, and give those that belong to none."""
        tops = []
        above: dict[int, int | None] = {}
        for pid, record in sorted(self.records.items(), key=lambda item: (-(item[1].age_s or 0), item[0])):
            over = record.parent
            if record.role == "child":
                asked_by = self.records.get(over or 0)
                if asked_by is None or asked_by.role != "child" or asked_by.template != record.template:
                    over = record.template
            if over not in self.records or is_below(over, pid, above):
                tops.append(record)
                continue
            above[pid] = over
            self.records[over].below.append(record)
        return tops

    def is_tracker(self, pid: int) -> bool:
        """Is it one, and no stranger that calls itself so? A tracker has its door where it was given it."""
        files = self.files[pid]
        if pid in self.heads or pid in self.children or split_title(self.titles[pid])[0] != "tracker":
            return False
        return files is None or files.get(3, "").startswith("socket:")

    def add_tracker(self, pid: int) -> None:
        """Enter a tracker, and the program that it works for."""
        # Its parent may be whoever adopts orphans, or a template that started it to succeed another.
        program = self.seen[pid]["ppid"] if self.files[pid] is None else read_root(pid)
        self.enter(ProcessRecord("tracker", pid, parent=program, name=split_title(self.titles[pid])[1]))
        if program in self.seen and program not in self.records and program not in self.children:
            self.enter(ProcessRecord("program", program))

    def add_template(self, held: HeldBoard, everything: bool) -> None:
        """Enter a template and its children."""
        generation, pid, phase, _, starts, born = held.board.read_head()
        if pid not in self.seen and os.path.exists(f"/proc/{pid}"):
            return  # started while we look
        tracker = next((holder for holder in held.holders if self.is_tracker(holder)), None)
        alive = pid in self.ours and (pid in held.holders or self.seen[pid]["ppid"] == tracker)
        record = ProcessRecord("template", pid, parent=tracker, generation=generation, starts=starts)
        record.preload = read_report(held.board)
        children = [row for row in held.rows.values() if self.is_its_process(row)]
        if alive:
            record.state = board_.PHASES.get(phase, "preloading")
            record.name = split_title(self.titles[pid])[1]
            self.enter(record)
        elif children or everything:
            record.state = "dead"
            record.age_s = round(self.monotonic - born / 1e9, 3)
            # The kernel may have given the pid to another by now.
            self.records.setdefault(pid, record)
        for row in children:
            child = ProcessRecord("child", row.pid, parent=row.client, template=pid, generation=generation)
            child.name = row.name
            child.task = self.tasks.get(row.pid)
            if row.name == "spare" and row.step <= WAITS:
                child.state = "spare"
            self.enter(child)
            if not alive and child.title.startswith(f"warmfork: {row.name} "):
                record.name = child.title.removeprefix(f"warmfork: {row.name} ")  # it can't say its own any longer

    def is_its_process(self, row: Row) -> bool:
        """Is the process with this pid still the one in the row? Nobody strikes the dead off a dead template's board,
        and their pids go to others, who are younger than the row."""
        age = self.get_age(row.pid)
        return age is not None and age + 0.001 >= self.monotonic - row.since_ns / 1e9

    def add_by_title(self, pid: int) -> None:
        """Enter what is on no board, where the fds of its tracker are not ours to look into: its title has to do."""
        parent = self.seen[pid]["ppid"]
        known = self.records.get(parent)
        role, name, generation = split_title(self.titles[pid])
        if known is None or known.role not in ("tracker", "template") or known.starts is not None:
            return
        if role == "template" and known.role == "tracker":
            self.enter(ProcessRecord(role, pid, "", name, parent, state="serving", generation=generation))
        elif not role and self.files.get(parent) is None:
            self.enter(ProcessRecord("child", pid, template=parent if known.role == "template" else None))

    def enter(self, record: ProcessRecord) -> None:
        """Enter a living process, with what the kernel says of it."""
        info = self.seen[record.pid]
        record.title = self.titles[record.pid]
        if info["status"] in ("stopped", "tracing-stop"):
            record.state = "stopped"
        elif info["status"] == "zombie":
            record.state = "zombie"
        age = self.get_age(record.pid)
        record.age_s = round(max(0.0, age), 3) if age is not None else None
        if info["cpu_times"] is not None:
            record.cpu_s = round(info["cpu_times"].user + info["cpu_times"].system, 2)
        if info["memory_info"] is not None and record.state != "zombie":
            record.rss_mib = round(info["memory_info"].rss / 2**20, 2)
        memory = share.read_share(record.pid)
        if memory is not None:
            record.pss_mib, record.uss_mib = round(memory.pss / 1024, 2), round(memory.uss / 1024, 2)
            record.shared_mib, record.huge_mib = round(memory.shared / 1024, 2), round(memory.huge / 1024, 2)
        self.records[record.pid] = record


def split_title(title: str) -> tuple[str, str | None, int | None]:
    """Give role, name and generation of a tracker or template by its title: "warmfork: template NAME gen=1 [2 children]".
    The role is "" for any other."""
    role, _, name = title.removeprefix("warmfork: ").partition(" ")
    if role not in ("tracker", "template") or not title.startswith("warmfork: ") or not name:
        return "", None, None
    before, _, after = name.rpartition(" gen=")
    number, bracket, _ = after.partition(" [")
    if before and bracket and number.isdecimal() and len(number) < 20:
        return role, before, int(number)
    return role, name, None


def is_below(pid: int | None, other: int, above: dict[int, int | None]) -> bool:
    """Is it below the other, or the other itself? A pid that was given out twice could make a ring."""
    while pid is not None and pid != other:
        pid = above.get(pid)
    return pid == other


def read_file(pid: int, fd: int, known: dict[tuple[int, int], HeldBoard]) -> tuple[tuple[int, int], bytes] | None:
    """Read the board that a process has open, unless it is known. It is not mapped: whoever holds it may cut it short,
    and whoever reads a map of it then is killed. Gives what identifies the file, and what is in it, or None."""
    try:
        mine = os.open(f"/proc/{pid}/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        info = os.fstat(mine)
        identity = info.st_dev, info.st_ino
        if identity in known:
            return identity, b""
        data = os.pread(mine, board_.SIZE, 0)
        return (identity, data) if len(data) == board_.SIZE else None
    except OSError:
        return None
    finally:
        os.close(mine)


def read_root(tracker: int) -> int | None:
    """Give the program whose tracker this is, as its ledger says, or None where that is dead."""
    try:
        # Whoever calls itself a tracker may have anything there: a FIFO is waited for where it is opened without this flag.
        ledger = fds.Fd(os.open(f"/proc/{tracker}/fd/4", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC))
        with ledger:
            at = int.from_bytes(os.pread(ledger.fileno(), 8, 0), "little") or ledger_.START
            data = os.pread(ledger.fileno(), LEDGER_PART, min(at, 1 << 62))
    except OSError:
        return None
    root = next((record for _, record in ledger_.read_records(data) if isinstance(record, messages.Root)), None)
    return root.pid if root and root.since and pids.read_since(root.pid) == root.since else None


def read_report(board: Board) -> list[dict[str, Any]]:
    """Give what was preloaded. The last line may be cut short where the list is very long."""
    found = []
    for line in board.read_report()[: board_.REPORT_SIZE].splitlines():
        try:
            spent, kib, item = line.split("\t")
            took, mib = float(spent), int(kib) / 1024
        except (ValueError, OverflowError):
            continue
        if math.isfinite(took) and math.isfinite(mib):
            found.append({"item": item, "ms": took, "mib": round(mib, 2)})
    return found


def walk(records: list[ProcessRecord], depth: int = 0) -> Iterator[tuple[ProcessRecord, int]]:
    """Give all processes with their depth, each before what is below it."""
    todo = [(record, depth) for record in reversed(records)]
    while todo:  # a loop: a tree may be deeper than Python can recurse
        record, depth = todo.pop()
        yield record, depth
        todo += [(each, depth + 1) for each in reversed(record.below)]
