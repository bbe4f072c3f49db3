"""A short storm of kills: see truth.py, whose command runs a long one."""

from __future__ import annotations

from tests.faults.truth import hold


def test_whatever_a_child_ends_with_is_told_although_its_template_and_tracker_are_killed_in_any_order():
    counted = hold(5.0, seed=3)
    assert counted["wrong"] == [], counted
    assert counted["answers"] > 5 and counted["kills"] > 5, counted  # hundreds on a machine that is not busy
