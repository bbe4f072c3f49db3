"""The census: which programs of this user have warmfork's processes, and which those are.

Nothing is asked of the processes themselves: /proc says which there are, and the boards, read through /proc/PID/fd of
whoever holds them, say whose child is whose. So it sees stopped and hanging trees too. What ends while it looks is left
out.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, field

from warmfork._machine import pids, proc
from warmfork._words import board as board_
from warmfork._words import ledger as ledger_

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from warmfork._words.board import Board, Row

BOARD = re.compile(r"/memfd:warmfork-board-[0-9a-f]+ \(deleted\)|/.*/warmfork-board-[0-9a-f-]+ \(deleted\)")
"""What a board's fd is open on: a memfd, or a file in its place."""

TITLE = re.compile(r"warmfork: (?P<role>tracker|template) (?P<name>.*?)(?: gen=(?P<generation>\d+) \[.*\])?")
BARE = re.compile(r"\S.*/warmfork/(_tracker|_template)/start\.py")
"""What the titles are where setproctitle is missing; a tracker's children inherit its."""

WAITS = 1
"""The step of birth in which a child waits for its feed: a spare stays there until it is needed."""


@dataclass
class Entry:
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
    rss_mib: float | None = None
    pss_mib: float | None = None
    uss_mib: float | None = None
    shared_mib: float | None = None
    huge_mib: float | None = None
    starts: int | None = None
    preload: list[dict[str, Any]] | None = None
    below: list[Entry] = field(default_factory=list)


@dataclass
class Held:
    """A board, and who holds it."""

    board: Board
    rows: dict[int, Row]
    holders: set[int]


class Census:
    """All processes as they were at one moment, and what is made of them."""

    def __init__(self) -> None:
        import psutil

        wanted = ["cmdline", "create_time", "memory_info", "ppid", "status", "uids"]
        self.boot = psutil.boot_time()
        self.monotonic = time.monotonic()  # first: so a process is never younger than what it wrote on its board
        self.now = time.clock_gettime(time.CLOCK_BOOTTIME)
        self.seen: dict[int, dict[str, Any]] = {
            process.pid: process.info for process in psutil.process_iter(wanted, ad_value=None)
        }
        self.titles = {pid: " ".join(info["cmdline"] or ()).strip() for pid, info in self.seen.items()}
        me = os.geteuid()
        mine = [pid for pid, info in self.seen.items() if info["uids"] and info["uids"].effective == me]
        self.ours = [pid for pid in mine if self.titles[pid].startswith("warmfork: ") or BARE.match(self.titles[pid])]
        self.files = {pid: proc.list_files(pid) for pid in self.ours}
        self.boards = self.read_boards()
        self.heads = {held.board.read_head()[1] for held in self.boards}
        self.children = {pid for held in self.boards for pid in held.rows}
        self.entries: dict[int, Entry] = {}

    def read_boards(self) -> list[Held]:
        """Read each board once, whoever holds it."""
        found: dict[tuple[int, int], Held] = {}
        for pid, files in self.files.items():
            for fd, target in (files or {}).items():
                mapped = proc.map_file(pid, fd, board_.SIZE) if BOARD.fullmatch(target) else None
                if mapped is None:
                    continue
                identity, memory = mapped
                if identity in found:
                    found[identity].holders.add(pid)
                    continue
                board = board_.Board(memory)
                try:
                    board.read_head()
                except ValueError:  # not begun yet, or another version's
                    continue
                found[identity] = Held(board, {row.pid: row for row in board.rows()}, {pid})
        return list(found.values())

    def get_parent(self, pid: int) -> int | None:
        """Give the parent in the kernel's eyes."""
        parent: int | None = self.seen[pid]["ppid"] if pid in self.seen else None
        return parent

    def get_age(self, pid: int) -> float | None:
        """Give the seconds since a process was started."""
        born: float | None = self.seen[pid]["create_time"] if pid in self.seen else None
        # psutil adds the time of the boot, which the kernel tells in whole seconds.
        return self.now - (born - self.boot) if born is not None else None

    def collect(self, everything: bool) -> list[Entry]:
        """Give the tops of the trees."""
        for pid in self.ours:
            if self.is_tracker(pid):
                self.add_tracker(pid)
        for held in self.boards:
            self.add_template(held, everything)
        for pid in self.ours:
            if pid not in self.entries and pid not in self.heads:
                self.add_unknown(pid)
        return self.arrange()

    def arrange(self) -> list[Entry]:
        """Hang each entry below the one it belongs to, and give those that belong to none."""
        tops = []
        above: dict[int, int | None] = {}
        for pid, entry in sorted(self.entries.items(), key=lambda item: (-(item[1].age_s or 0), item[0])):
            over = entry.parent
            if entry.role == "child":
                asked_by = self.entries.get(over or 0)
                if asked_by is None or asked_by.role != "child" or asked_by.template != entry.template:
                    over = entry.template
            if over not in self.entries or self.is_below(over, pid, above):
                tops.append(entry)
                continue
            above[pid] = over
            self.entries[over].below.append(entry)
        return tops

    def is_below(self, pid: int | None, other: int, above: dict[int, int | None]) -> bool:
        """Is it below the other, or the other itself? A pid that was given out twice could make a ring."""
        while pid is not None and pid != other:
            pid = above.get(pid)
        return pid == other

    # -- the roles

    def is_tracker(self, pid: int) -> bool:
        """Is it one, and no stranger that calls itself so? A tracker has its door where it was given it."""
        if pid in self.heads or pid in self.children:
            return False
        files = self.files[pid]
        if files is not None and not files.get(3, "").startswith("socket:"):
            return False
        match = TITLE.fullmatch(self.titles[pid])
        if match:
            return match["role"] == "tracker"
        # Without titles, what a tracker has forked a moment ago looks like it. A child may have a tracker of its own.
        parent = self.get_parent(pid)
        return "/_tracker/" in self.titles[pid] and (parent not in self.ours or parent in self.children)

    def add_tracker(self, pid: int) -> None:
        """Enter a tracker, and the program that it works for."""
        program = self.get_parent(pid)
        if self.files[pid] is not None:
            # Its parent may be whoever adopts orphans, or a template that started it to succeed another.
            program = read_root(pid)
        self.enter(Entry("tracker", pid, parent=program, name=self.read_name(pid)))
        if program in self.seen and program not in self.entries and program not in self.children:
            self.enter(Entry("program", program))

    def add_template(self, held: Held, everything: bool) -> None:
        """Enter a template and its children."""
        generation, pid, phase, _, starts, born = held.board.read_head()
        if pid not in self.seen and os.path.exists(f"/proc/{pid}"):
            return  # started while we look
        tracker = next((holder for holder in held.holders if self.is_tracker(holder)), None)
        alive = pid in self.ours and (pid in held.holders or self.get_parent(pid) == tracker)
        entry = Entry("template", pid, parent=tracker, generation=generation, starts=starts)
        entry.preload = read_report(held.board)
        children = [row for row in held.rows.values() if self.is_its_process(row)]
        if alive:
            entry.state = board_.PHASES.get(phase, "preloading")
            entry.name = self.read_name(pid)
            self.enter(entry)
        elif children or everything:
            entry.state = "dead"
            entry.age_s = round(self.monotonic - born / 1e9, 3)
            # The kernel may have given the pid to another by now.
            self.entries.setdefault(pid, entry)
        for row in children:
            child = Entry("child", row.pid, parent=row.client, template=pid, generation=generation, name=row.name)
            if row.name == "spare" and row.step <= WAITS:
                child.state = "spare"
            self.enter(child)
            if not alive and child.title.startswith(f"warmfork: {row.name} "):
                entry.name = child.title.removeprefix(f"warmfork: {row.name} ")  # it can't say its own any longer

    def is_its_process(self, row: Row) -> bool:
        """Is the process with this pid still the one in the row? Nobody strikes the dead off a dead template's board,
        and their pids go to others, who are younger than the row."""
        age = self.get_age(row.pid)
        return age is not None and age + 0.001 >= self.monotonic - row.since_ns / 1e9

    def add_unknown(self, pid: int) -> None:
        """Enter what is on no board that can be read: the board's holders are dead, or not ours to look into."""
        parent = self.get_parent(pid)
        known = self.entries.get(parent or 0)
        match = TITLE.fullmatch(self.titles[pid])
        if match and known and known.role == "tracker":
            generation = int(match["generation"]) if match["generation"] else None
            entry = Entry("template", pid, parent=parent, name=match["name"], generation=generation, state="serving")
            self.enter(entry)
        elif not match and self.titles[pid].startswith("warmfork: ") and self.is_adopted(pid, known):
            self.enter(Entry("child", pid, template=parent if known and known.role == "template" else None))

    def is_adopted(self, pid: int, known: Entry | None) -> bool:
        """Is it a child that lost its template and tracker? Then it holds a pidfd on its client, and a socket."""
        if known and known.role in ("template", "tracker"):
            return known.starts is None
        targets = (self.files[pid] or {}).values()
        return "anon_inode:[pidfd]" in targets and any(target.startswith("socket:") for target in targets)

    def read_name(self, pid: int) -> str | None:
        """Give the name in the title of a tracker or template."""
        match = TITLE.fullmatch(self.titles[pid])
        return match["name"] if match else None

    def enter(self, entry: Entry) -> None:
        """Enter a living process, with what the kernel says of it."""
        info = self.seen[entry.pid]
        entry.title = self.titles[entry.pid]
        if info["status"] in ("stopped", "tracing-stop"):
            entry.state = "stopped"
        elif info["status"] == "zombie":
            entry.state = "zombie"
        age = self.get_age(entry.pid)
        entry.age_s = round(max(0.0, age), 3) if age is not None else None
        if info["memory_info"] is not None and entry.state != "zombie":
            entry.rss_mib = round(info["memory_info"].rss / 2**20, 2)
        share = proc.read_share(entry.pid)
        if share is not None:
            entry.pss_mib, entry.uss_mib = round(share.pss / 1024, 2), round(share.uss / 1024, 2)
            entry.shared_mib, entry.huge_mib = round(share.shared / 1024, 2), round(share.huge / 1024, 2)
        self.entries[entry.pid] = entry


def read_root(tracker: int) -> int | None:
    """Give the program whose tracker this is, as its ledger says, or None where that is dead."""
    try:
        with open(f"/proc/{tracker}/fd/4", "rb") as file:
            root = ledger_.find_root(file)
    except OSError:
        return None
    return root.pid if root is not None and pids.read_since(root.pid) == root.since else None


def read_report(board: Board) -> list[dict[str, Any]]:
    """Give what was preloaded. The last line may be cut short where the list is very long."""
    found = []
    for line in board.read_report().splitlines():
        try:
            spent, kib, item = line.split("\t")
            found.append({"item": item, "ms": float(spent), "mib": round(int(kib) / 1024, 2)})
        except ValueError:
            continue
    return found


def walk(entries: list[Entry], depth: int = 0) -> Iterator[tuple[Entry, int]]:
    """Give all entries with their depth, each before what is below it."""
    for entry in entries:
        yield entry, depth
        yield from walk(entry.below, depth + 1)
