"""The quick part of the fault matrix: each who at each when (M1 to M5, M8, M12, M20 to M22; rows 34, 44, 47)."""

from __future__ import annotations

import pytest

from tests.faults import cells
from tests.faults.cells import Cell
from tests.faults.playing import play
from warmfork._child.birth import STEPS


@pytest.mark.parametrize("cell", cells.list_quick_cells(), ids=str)
def test_after_a_fault_whoever_waits_is_told_the_truth_in_time_and_nothing_is_left_and_the_next_start_works(cell: Cell):
    faults = play(cell)
    reason = cells.get_reason(cell)
    if reason:
        assert faults, f"it passes: take it off the list ({reason})"
        pytest.xfail(reason)
    assert faults == []


def test_the_matrix_has_every_step_of_a_birth():
    """One list: whoever adds a step to birth has it in the matrix."""
    played = {cell.when for cell in cells.list_cells("warmfork") if cell.who == cells.CHILD}
    assert played >= {name for name, _ in STEPS}


def test_what_is_listed_as_failing_is_in_the_matrix():
    assert set().union(*cells.WAITING.values()) <= set(cells.list_cells("warmfork"))
