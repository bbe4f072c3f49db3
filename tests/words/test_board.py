from __future__ import annotations

import mmap
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmfork._words import board as board_
from warmfork._words.board import Board


@pytest.fixture
def board() -> Iterator[Board]:
    with mmap.mmap(-1, board_.SIZE) as memory:
        yield Board(memory)


def enter(board: Board, pid: int, name: bytes = b"name", client: int = 7, kill: int = 1, now: int = 100) -> int:
    slot = board.take_slot()
    board.write_slot(slot, client, kill, now, now, name)
    board.write_pid(slot, pid)
    return slot


def see(board: Board) -> list[tuple[object, ...]]:
    return [(row.pid, row.client, row.kill, row.step, row.since_ns, row.name) for row in Board(board.memory).rows()]


def test_memory_that_is_no_board_is_refused(board):
    with pytest.raises(ValueError, match="no board of this version"):
        board.read_head()
    board.begin(1, 2, 3)
    board.memory[8] += 1
    with pytest.raises(ValueError, match="no board of this version"):
        board.read_head()


def test_the_head_says_what_was_written(board):
    board.begin(generation=3, pid=4711, now_ns=99)
    assert board.read_head() == (3, 4711, board_.PRELOADING, 0, 0, 99)
    board.write_item(2)
    board.write_phase(board_.SERVING)
    board.write_starts(1_000_000)
    assert board.read_head() == (3, 4711, board_.SERVING, 2, 1_000_000, 99)
    assert see(board) == []


@pytest.mark.parametrize("text", ["", "1.5\t100\tnumpy", "ä" * 100, "x" * board_.REPORT_SIZE, "ä" * board_.REPORT_SIZE])
def test_the_report_is_given_back_as_far_as_there_is_room(board, text):
    board.begin(1, 2, 3)
    enter(board, 5)
    board.write_report(text)
    found = board.read_report()
    assert text.startswith(found.rstrip("\ufffd"))
    assert found == text or len(found.encode()) >= board_.REPORT_SIZE - 8
    assert board.read_head() == (1, 2, board_.PRELOADING, 0, 0, 3)
    assert [row[0] for row in see(board)] == [5], "it must not run over into the slots"


def test_a_shorter_report_replaces_a_longer_one(board):
    board.write_report("a long report")
    board.write_report("short")
    assert board.read_report() == "short"


def test_a_child_is_on_the_board_from_its_pid_to_its_death(board):
    slot = board.take_slot()
    board.write_slot(slot, 7, 1, 100, 100, b"Process-1")
    assert see(board) == []
    board.write_pid(slot, 1234)
    assert see(board) == [(1234, 7, 1, board_.BORN, 100, "Process-1")]
    board.write_step(slot, 3, 200)
    assert see(board) == [(1234, 7, 1, 3, 200, "Process-1")]
    board.free_slot(slot)
    assert see(board) == []


def test_a_child_that_is_quicker_than_its_template_keeps_the_step_that_it_wrote(board):
    """The child writes its step as soon as it is forked, and the template its pid when it comes to it."""
    slot = board.take_slot()
    board.write_slot(slot, 7, 1, 100, 100, b"quick")
    board.write_step(slot, 2, 150)
    board.write_pid(slot, 1234)
    assert see(board) == [(1234, 7, 1, 2, 150, "quick")]


def test_a_slot_says_nothing_of_the_child_that_had_it_before(board):
    slot = enter(board, 1, b"a long name")
    board.write_step(slot, 6, 500)
    board.free_slot(slot)
    assert enter(board, 2, b"b", now=600) == slot
    assert see(board) == [(2, 7, 1, board_.BORN, 600, "b")]


@pytest.mark.parametrize(
    ("name", "shown"),
    [(b"", ""), (b"x" * 200, "x" * 80), ("ä".encode() * 40, "ä" * 40), (b"\xff", "\ufffd"), (b"a\0b", "a\0b")],
)
def test_a_name_is_shown_as_far_as_there_is_room(board, name, shown):
    enter(board, 1, name)
    enter(board, 2)
    assert [row[-1] for row in see(board)] == [shown, "name"]


def test_a_full_board_gives_no_slot_until_a_child_dies(board):
    slots = [board.take_slot() for _ in range(board_.SLOTS)]
    assert slots == list(range(board_.SLOTS))
    assert board.take_slot() == -1
    for slot in (0, board_.SLOTS - 1):
        board.write_slot(slot, 7, 1, 100, 100, b"name")
    board.write_pid(board_.SLOTS - 1, 99)
    board.free_slot(17)
    assert board.take_slot() == 17
    assert board.take_slot() == -1
    assert board_.SLOTS_AT + board_.SLOTS * board_.SLOT.size == board_.SIZE


@given(st.lists(st.tuples(st.sampled_from(["birth", "death", "failure", "step"]), st.integers(0, 30)), max_size=60))
def test_the_rows_are_the_children_that_live(events):
    """The reader stops at the first slot that was never used: no living child may lie behind it."""
    with mmap.mmap(-1, board_.SIZE) as memory:
        board = Board(memory)
        living: dict[int, tuple[int, int]] = {}
        for pid, (event, which) in enumerate(events, 1):
            if event == "birth":
                living[pid] = enter(board, pid), board_.BORN
            elif event == "failure":  # the fork failed: the slot was taken, and is given back
                slot = board.take_slot()
                board.write_slot(slot, 7, 1, 100, 100, b"name")
                board.free_slot(slot)
            elif living:
                chosen = sorted(living)[which % len(living)]
                slot, _ = living[chosen]
                if event == "death":
                    board.free_slot(slot)
                    del living[chosen]
                else:
                    board.write_step(slot, which, 200)
                    living[chosen] = slot, which
        assert {row.pid: row.step for row in Board(memory).rows()} == {pid: step for pid, (_, step) in living.items()}
