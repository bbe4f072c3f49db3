"""Classes that take a parameter, when a program runs."""

from __future__ import annotations

import pytest

import warmfork


@pytest.mark.parametrize("name", ["Child", "Completed", "TaskFuture"])
def test_a_class_takes_its_parameter_when_the_program_runs_too(name):
    kind = getattr(warmfork, name)
    assert (kind[int].__origin__, kind[int].__args__) == (kind, (int,))
