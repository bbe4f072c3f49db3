"""A template for all tests of the executor, an executor for each, and gates that tasks wait at."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import warmfork

JOBS = "tests.api.executor.jobs"


@pytest.fixture(scope="module")
def template() -> Iterator[warmfork.Template]:
    with warmfork.Template(preload=[JOBS], spares=0, name="executors") as made:
        made.wait_ready()
        yield made


@pytest.fixture
def make(template: warmfork.Template) -> Iterator[Callable[..., warmfork.Executor]]:
    """Make an executor of so many workers, which ends with the test."""
    made = []

    def make_one(workers: int = 2, **options: object) -> warmfork.Executor:
        executor = warmfork.Executor(workers, template=template, **options)
        made.append(executor)
        return executor

    yield make_one
    for executor in made:
        executor.kill_workers()


@pytest.fixture
def executor(make: Callable[..., warmfork.Executor]) -> warmfork.Executor:
    return make(2)


class Gate:
    """A FIFO at which tasks wait until it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        os.mkfifo(path)

    def open(self) -> None:
        """Let whoever waits go on. Waits until somebody does."""
        os.close(os.open(self.path, os.O_WRONLY))


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


@pytest.fixture
def make_gate(tmp_path: Path) -> Callable[[str], Gate]:
    return lambda name: Gate(tmp_path / name)
