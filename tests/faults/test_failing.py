"""A sample of the system calls that fail: each tenth. All of them: `python -m tests.faults.failing` (rows 29, 30, M10)."""

from __future__ import annotations

import pytest

from tests.faults.failing import run_all
from tests.faults.injection import CALLS

EVERY = 10


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("who", ["client", "template", "tracker", "child"])
def test_a_system_call_that_fails_costs_an_answer_at_most_and_what_was_refused_works_the_next_time(who: str, name: str):
    runs = list(run_all(who, name, EVERY))
    assert {f"n={run.number}, {run.call} at {run.at}": run.faults for run in runs if run.faults} == {}
    assert runs[0].call, "none has failed: this test tests nothing"
