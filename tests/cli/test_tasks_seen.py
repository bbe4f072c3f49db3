"""`warmfork ps` and `top` show what the workers of an executor run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import warmfork
from tests.api.executor import jobs
from tests.cli.looking import list_lines, list_tree, select
from tests.support import wait_until
from warmfork._machine import memfds
from warmfork._tasks import work
from warmfork.cli.tasks import read_tasks


@pytest.fixture(params=[None, 1], ids=["workers that stay", "a process for each task"])
def executor(request) -> Iterator[warmfork.Executor]:
    with warmfork.Executor(2, preload=[jobs.__name__], tasks_per_worker=request.param, name="seen") as made:
        yield made


@pytest.fixture
def gate(tmp_path: Path) -> str:
    os.mkfifo(tmp_path / "gate")
    return str(tmp_path / "gate")


def open_gate(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY))


def test_ps_shows_what_each_worker_runs_and_for_how_long(executor, gate):
    named = executor.with_options(name="nightly report")
    future = named.submit(jobs.wait_for, gate)
    wait_until(future.running)
    executor.submit(pow, 2, 3).result(10)
    (worker,) = [each for each in select(list_tree(os.getpid()), role="child") if each["task"]]
    assert worker["task"]["name"] == "nightly report" and 0 <= worker["task"]["age_s"] < 60
    (line,) = list_lines(worker["pid"])
    assert "[nightly report " in line
    open_gate(gate)
    future.result(10)
    slot = executor._core.slots
    wait_until(lambda: all(each.page.words[work.FINISHED] == each.page.words[work.CONFIRMED] for each in slot))
    assert [each for each in select(list_tree(os.getpid()), role="child") if each["task"]] == []


def test_top_shows_it_too(executor, gate):
    from warmfork.cli.top import View

    future = executor.submit(jobs.wait_for, gate)
    wait_until(future.running)
    view = View("age")
    view.look()
    assert any("[wait_for " in line for line in view.draw(200))
    open_gate(gate)
    future.result(10)


def test_a_name_is_that_of_the_task_that_runs_though_many_were_handed_out(gate):
    with warmfork.Executor(1, preload=[jobs.__name__], name="seen") as executor:
        for number in range(300):
            executor.with_options(name=f"task {number}").submit(pow, 2, 3)
        future = executor.with_options(name="ö" * 40).submit(jobs.wait_for, gate)
        last = executor.with_options(name="behind it").submit(pow, 2, 3)
        wait_until(future.running)
        (task,) = read_tasks({os.getpid(): list_own_files()}).values()
        assert task["name"].startswith("ö" * 15) and "behind" not in task["name"]
        open_gate(gate)
        assert last.result(10) == 8


def list_own_files() -> dict[int, str]:
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            found[int(fd)] = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:
            continue
    return found


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"\xff" * work.PAGE_SIZE, b"\1" * (work.PAGE_SIZE + 9)])
def test_nonsense_in_a_page_costs_nobody_the_table(content):
    fd = memfds.make_memory("warmfork-page", content)
    try:
        for task in read_tasks({os.getpid(): {fd: "/memfd:warmfork-page (deleted)"}}).values():
            assert isinstance(task["name"], str) and task["age_s"] >= 0
    finally:
        os.close(fd)
