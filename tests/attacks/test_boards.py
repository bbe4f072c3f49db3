"""A child that wants to end others writes to whatever it can reach of board and stacks: nobody else notices."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import warmfork
from tests import crashing, targets
from tests.leftovers import read_stat
from tests.running import get_tracker
from tests.signs import make_sign
from tests.support import run_forked, wait_until
from warmfork._machine import pids
from warmfork._template.births import Births
from warmfork._tracker import files
from warmfork._tracker.orphans import Orphans
from warmfork._words import board as board_
from warmfork._words.board import Board

LIBC = ctypes.CDLL(None, use_errno=True)
SHM = "warmfork-board", "warmfork-stacks"


def list_shared() -> list[tuple[int, int, str]]:
    """This process's own mappings of board and stacks."""
    found = []
    with open("/proc/self/maps") as maps:
        for line in maps:
            if any(name in line for name in SHM):
                start, end = (int(part, 16) for part in line.split()[0].split("-"))
                found.append((start, end, line))
    return found


def list_ways() -> Iterator[str]:
    """Paths by which a process may open board and stacks: its own fds and mappings, and those of its template."""
    for process in ("self", str(os.getppid())):
        for folder in ("fd", "map_files"):
            try:
                names = os.listdir(f"/proc/{process}/{folder}")
            except OSError:
                continue
            for name in names:
                path = f"/proc/{process}/{folder}/{name}"
                with contextlib.suppress(OSError):
                    if any(name in os.readlink(path) for name in SHM):
                        yield path


def attack(uid: int) -> tuple[list[tuple[str, str]], list[str]]:
    """Become this user, and try everything. Gives what there was to try it on, and what changed a board."""
    if uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    done = [f"mapped: {line}" for *_, line in list_shared()]
    tried = []
    own = {int(name) for name in os.listdir("/proc/self/fd")}
    for path in list_ways():
        tried.append((path, os.readlink(path)))
        opened = []
        if path.startswith("/proc/self/fd/") and int(path.rpartition("/")[2]) in own:
            opened.append(int(path.rpartition("/")[2]))
        for flags in (os.O_RDWR, os.O_WRONLY, os.O_RDONLY, os.O_RDWR | os.O_TRUNC):
            with contextlib.suppress(OSError):
                opened.append(os.open(path, flags))
        is_board = SHM[0] in os.readlink(path)
        for fd in opened:
            done += [f"{way} by {path}" for way in try_all(fd, is_board)]
    return tried, done


def try_all(fd: int, is_board: bool) -> Iterator[str]:
    """Cut, lengthen, write, punch, map. Only that others are not touched by it counts: stacks may be written."""
    size = os.fstat(fd).st_size
    for length in (0, 1, size + 4096):
        with contextlib.suppress(OSError):
            os.ftruncate(fd, length)
            yield f"ftruncate({length})"
    with contextlib.suppress(OSError):
        if os.pwrite(fd, b"\xff" * 4096, board_.SLOTS_AT) and is_board:
            yield "pwrite"
    if LIBC.fallocate(fd, 3, ctypes.c_long(0), ctypes.c_long(1 << 20)) == 0 and is_board:
        yield "punch a hole"
    with contextlib.suppress(OSError, ValueError):
        with mmap.mmap(fd, board_.SIZE) as view:
            if is_board:
                view[0:8] = b"forged!!"
                yield "map"


@pytest.mark.parametrize("uid", [0, 54321], ids=["same user", "another user"])
def test_a_child_can_change_nothing_that_others_rely_on(uid: int):
    if uid and os.geteuid():
        pytest.skip("needs the right to become another user")
    with warmfork.Template(spares=0) as template:
        other = template.start(targets.wait)
        before = template.pid, get_tracker()
        tried, done = template.start(attack, (uid,)).result(20)
        assert done == []
        assert [name for path, name in tried if path.startswith("/proc/self/")] == ["/memfd:warmfork-stacks (deleted)"]
        assert any("warmfork-board" in name for path, name in tried) or uid, "those of the template, for the same user"
        for number in range(3):
            assert template.start(targets.give, (number,)).result(20) == number
        assert (template.pid, get_tracker()) == before
        assert other.outcome is None
        other.kill()
        other.wait(20)


def test_a_spare_has_let_go_of_the_board_too_when_user_code_runs():
    with warmfork.Template(spares=1) as template:
        for _ in range(3):
            assert template.start(list_shared).result(20) == []


def test_stacks_full_of_nonsense_are_no_evidence_and_hurt_nobody():
    with warmfork.Template(spares=0) as template:
        template.wait_ready()
        before = template.pid, get_tracker()
        child = template.start(scribble_and_crash)
        outcome = child.wait(20)
        assert outcome == warmfork.Signaled(11) or outcome.signal == 11
        assert template.start(targets.give, (1,)).result(20) == 1
        assert (template.pid, get_tracker()) == before


def scribble_and_crash() -> None:
    for path in list_ways():
        if "warmfork-stacks" in os.readlink(path) and "/self/fd/" in path:
            fd = int(path.rpartition("/")[2])
            for at in (0, os.getpid() << 24, os.getppid() << 24):
                os.pwrite(fd, b"Fatal Python error" + b"\xff\0\n" * 40_000, at)
    os.kill(os.getpid(), 11)


def fill_stacks(sign: str) -> int:
    """Fill the file for stacks; then wait, if there is a sign to be given."""
    for path in list_ways():
        if "warmfork-stacks" in os.readlink(path) and "/self/fd/" in path:
            for at in range(80):
                os.pwrite(int(path.rpartition("/")[2]), bytes(1 << 20), at << 30)
    if sign:
        targets.sign_and_wait(sign)
    return 1


def measure_stacks(holder: int) -> int:
    """Give the bytes of all files for stacks that a process holds."""
    held = [f"/proc/{holder}/fd/{fd}" for fd in os.listdir(f"/proc/{holder}/fd")]
    return sum(os.stat(path).st_blocks * 512 for path in held if "warmfork-stacks" in os.readlink(path))


@pytest.mark.parametrize("template_dies", [False, True])
def test_a_child_that_fills_the_file_for_stacks_leaves_no_memory_taken(tmp_path: Path, template_dies: bool):
    with make_sign(tmp_path) as sign, warmfork.Template(spares=0) as template:
        child = template.start(fill_stacks, (sign.path if template_dies else "",))
        holder = get_tracker()
        if template_dies:
            sign.wait()
            assert measure_stacks(holder) >= 80 << 20
            os.kill(template.pid, 9)
            child.kill()
        child.wait(20)
        wait_until(lambda: measure_stacks(holder) < 1 << 20)


def forbid_stacks(other: int) -> None:
    """Leave nonsense where another's stack would be, and forbid everybody to write to that file."""
    for path in list_ways():
        if "warmfork-stacks" in os.readlink(path) and "/self/fd/" in path:
            fd = int(path.rpartition("/")[2])
            os.pwrite(fd, b"Fatal Python error: by a stranger", other << 24)
            with contextlib.suppress(PermissionError):
                fcntl.fcntl(fd, 1033, 1 | 8)  # F_ADD_SEALS: F_SEAL_SEAL, F_SEAL_WRITE


def test_a_child_can_not_forbid_others_to_leave_their_stacks():
    with warmfork.Template(spares=0) as template:
        other = template.start(targets.wait)
        template.start(forbid_stacks, (other.pid,)).result(20)
        other.send_signal(11)
        assert other.wait(20) == warmfork.Signaled(11) or other.outcome.signal == 11
        assert other.usage is not None, "it was told"
        outcome = template.start(crashing.crash_here).wait(20)
        assert "in crash_here" in outcome.stack


# -- rows that somebody has forged all the same


@pytest.fixture
def board() -> Iterator[Board]:
    with mmap.mmap(-1, board_.SIZE) as view:
        made = Board(view)
        made.begin(1, os.getpid(), time.monotonic_ns())
        yield made


@pytest.fixture
def bystander() -> Iterator[int]:
    process = subprocess.Popen(["sleep", "60"])
    yield process.pid
    process.kill()
    process.wait()


def make_loop() -> SimpleNamespace:
    """A loop that watches nothing, for rows that are to be looked at only."""
    return SimpleNamespace(
        watch=lambda *_: None, forget=lambda _: None, guard=lambda function, *given: function(*given[:-1])
    )


FORGED = {
    "pid of 2**40": (1 << 40, 7, 1, 3),
    "negative pid": (-1, 7, 1, 3),
    "everybody": (-(1 << 62), 7, 1, 3),
    "client of 2**40": (5, 1 << 40, 1, 3),
    "step of -100": (5, 7, 1, -100),
    "step of 2**50": (5, 7, 1, 1 << 50),
    "kill of 2": (5, 7, 2, 3),
}


@pytest.mark.parametrize("kind", FORGED)
def test_a_row_that_can_not_be_true_is_left_out(board: Board, kind: str):
    pid, client, kill, step = FORGED[kind]
    slot = board.take_slot()
    board_.SLOT.pack_into(board.memory, board_.SLOTS_AT, pid, client, kill, step, 1, 1, b"forged")
    after = board.take_slot()
    board.write_slot(after, 7, 1, 5, 5, b"true")
    board.write_pid(after, 4711)
    assert [row.pid for row in board.rows()] == [4711]
    assert board.read_row(slot) is None


def test_a_template_looks_past_a_row_that_can_not_be_true(board: Board):
    slot = board.take_slot()
    board_.SLOT.pack_into(board.memory, board_.SLOTS_AT, 5, 7, 1, -100, 1, 1, b"forged")
    births = Births(SimpleNamespace(board=board, children={os.getpid(): (slot, None, 1)}))
    births.limit = 0.0
    births.note(os.getpid(), slot)
    births.end_overdue()
    assert not births.waiting


def test_a_tracker_ends_no_bystander_whom_a_row_names(board: Board, bystander: int):
    """With pid and start time, which everybody may read; and a client that is dead."""
    since = pids.read_since(bystander)

    def inherit() -> int:
        for forked in (since, since + 5_000_000, 1, 1 << 62):
            slot = board.take_slot()
            board.write_slot(slot, 1 << 21, 1, 1, forked, b"forged")
            board.write_pid(slot, bystander)
        orphans = Orphans(make_loop(), [].append)
        orphans.inherit(board)
        return len(orphans.pending_kills.due)

    # In a fork, for to this process the bystander is a child.
    assert run_forked(inherit) == 0
    state = read_stat(bystander)
    assert state is not None and state[0] not in "ZX"


def test_a_tracker_ends_no_child_of_its_own_that_is_not_the_one_in_the_row(board: Board, bystander: int):
    """A template, or an orphan that has the pid of one that is dead."""
    slot = board.take_slot()
    board.write_slot(slot, 1 << 21, 1, 1, pids.read_since(bystander) - 60_000_000_000, b"dead by now")
    board.write_pid(slot, bystander)
    orphans = Orphans(make_loop(), [].append)
    orphans.inherit(board)
    assert not orphans.pending_kills


def test_a_board_is_its_owner_s_alone_and_keeps_its_size():
    ledger = os.memfd_create("ledger")
    board, stacks = files.make_board(ledger), files.make_stacks()
    for fd in (board, stacks):
        assert os.fstat(fd).st_mode & 0o777 == 0o600
        for size in (0, os.fstat(fd).st_size + 1):
            with pytest.raises(PermissionError):
                os.ftruncate(fd, size)
    assert os.fstat(stacks).st_blocks == 0
    for fd in (ledger, board, stacks):
        os.close(fd)


def test_a_board_that_can_be_cut_short_is_read_and_not_mapped():
    """`warmfork ps` reads the boards of others: a mapping of it would end it by SIGBUS."""
    from warmfork.cli import census

    fd = os.memfd_create("warmfork-board-0000000000000000", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, board_.SIZE)
    os.pwrite(fd, b"warmfork", 0)
    try:
        _, data = census.read_file(os.getpid(), fd, {})
        os.ftruncate(fd, 0)
        assert data[:8] == b"warmfork" and data[-8:] == bytes(8)
    finally:
        os.close(fd)


def test_the_end_of_a_template_leaves_bystanders_and_other_templates_alone(bystander: int):
    with warmfork.Template(spares=0, name="one") as one, warmfork.Template(spares=0, name="two") as two:
        assert one.start(attack, (0,)).result(20)[1] == []
        two.wait_ready()
        before = two.pid, get_tracker()
        kept = two.start(targets.wait)
        pidfd = os.pidfd_open(one.pid)
        os.kill(one.pid, 9)
        wait_until(lambda: targets.is_dead(pidfd))
        os.close(pidfd)
        assert one.start(targets.give, (1,)).result(20) == 1
        assert (two.pid, get_tracker()) == before and kept.outcome is None
        kept.kill()
        kept.wait(20)
    assert read_stat(bystander)[0] not in "ZX"
