"""Some seconds of chaos; `make soak-executor` has ten minutes of it."""

from __future__ import annotations

from tests.api.executor import chaos


def test_every_future_ends_once_and_with_the_truth_whatever_dies():
    rounds, seen, faults = chaos.run(5, seed=20_26)
    assert faults == []
    assert rounds > 0 and seen["kills from outside"] > 0 and seen["value: value"] > 100
