"""A Manager's proxies as arguments: who has one as an argument may ask the Manager."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import pytest

import warmfork
from tests.api import manager_jobs as jobs
from tests.support import make_environment


@pytest.fixture(scope="module")
def queue() -> Iterator[Any]:
    with multiprocessing.get_context("spawn").Manager() as manager:
        queue = manager.Queue()
        queue.qsize()  # it has a connection from now on, and not from the first test on
        yield queue
    resource_tracker._resource_tracker._stop()  # spawn's own, which is there for the Manager alone


def test_a_child_of_a_template_can_ask_the_manager_of_its_program(queue):
    with warmfork.Template(preload=[jobs.__name__]) as template:
        for number in range(3):  # the first one, and spares
            template.start(jobs.put, (queue, number)).result(20)
            assert queue.get(timeout=10) == number


@pytest.mark.parametrize("tasks", [None, 1])
def test_a_task_of_an_executor_can(queue, tasks):
    with warmfork.Executor(1, preload=[jobs.__name__], tasks_per_worker=tasks) as executor:
        executor.submit(jobs.put, queue, "x").result(20)
        assert queue.get(timeout=10) == "x"


def test_a_template_from_before_the_manager_has_children_that_can(tmp_path):
    """The program imports what managers need when its template, and a spare, are there already."""
    script = tmp_path / "script.py"
    script.write_text(
        "import warmfork\nfrom tests.api import manager_jobs as jobs\n"
        "if __name__ == '__main__':\n"
        "    with warmfork.Template(spares=2) as template:\n"
        "        template.wait_ready()\n"
        "        template.start(print).result()\n"
        "        import multiprocessing\n"
        "        with multiprocessing.get_context('spawn').Manager() as manager:\n"
        "            queue = manager.Queue()\n"
        "            template.start(jobs.put, (queue, 5)).result(20)\n"
        "            print(queue.get(timeout=10))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False,
        env=make_environment({"PYTHONPATH": str(Path.cwd())}),
    )  # fmt: skip
    assert done.stdout.split() == ["5"], done.stderr
