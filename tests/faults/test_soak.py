"""A short soak: see soak.py. The long one is `make soak`."""

from __future__ import annotations

from tests.faults.soak import soak

SECONDS = 15.0


def test_while_everything_but_the_program_is_killed_at_random_every_answer_is_true_and_in_time_and_nothing_is_left():
    faults, numbers, _ = soak(SECONDS, seed=1)
    assert faults == [], numbers
    assert numbers["starts"] > 100 and numbers["kills"] > 100, numbers
