"""Time, memory, turns: what a task may have, and what becomes of its neighbours."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time

import pytest

import warmfork
from tests.api.executor import jobs
from tests.api.executor.test_deaths import read_lines
from tests.support import wait_until


def test_a_task_that_runs_for_too_long_is_ended_and_says_so(executor, tmp_path):
    path = tmp_path / "log"
    future = executor.with_options(timeout=0.2, name="slow one").submit(jobs.note_when_ended, str(path))
    with pytest.raises(warmfork.TaskTimeout, match=r"slow one ran for longer than 0\.2 s") as caught:
        future.result(10)
    assert isinstance(caught.value, TimeoutError)
    assert (caught.value.task, caught.value.timeout) == ("slow one", 0.2)
    wait_until(lambda: read_lines(path) == ["begun", "ended"])
    assert executor.submit(pow, 2, 3).result(10) == 8


def test_the_clock_of_a_task_begins_when_it_runs(make, gate):
    """Two behind one that takes longer than they may."""
    executor = make(1)
    first = executor.submit(jobs.wait_for, gate.path)
    wait_until(first.running)
    limited = executor.with_options(timeout=0.2)
    futures = [limited.submit(pow, 2, 3) for _ in range(2)]
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 0.3)
    gate.open()
    assert [future.result(10) for future in futures] == [8, 8]


def test_a_limit_of_the_executor_holds_for_all_its_tasks(make):
    executor = make(1, timeout=0.1)
    with pytest.raises(warmfork.TaskTimeout):
        executor.submit(time.sleep, 60).result(10)
    assert executor.with_options(timeout=None).submit(time.sleep, 0.2).result(10) is None


def test_a_task_that_waits_for_too_long_is_told_so_and_never_starts(make, gate, tmp_path):
    executor = make(1)
    path = tmp_path / "log"
    first = executor.submit(jobs.wait_for, gate.path)
    wait_until(first.running)
    future = executor.with_options(queue_timeout=0.05).submit(jobs.note, str(path), "late")
    other = executor.with_options(queue_timeout=60).submit(jobs.note, str(path), "in time")
    with pytest.raises(warmfork.QueueTimeout, match=r"note waited for longer than 0\.05 s"):
        future.result(10)
    assert not future.started
    gate.open()
    assert other.result(10) == "in time"
    assert read_lines(path) == ["in time"]


def test_a_task_that_holds_too_much_memory_is_ended_and_says_how_much(executor, tmp_path):
    path = tmp_path / "log"
    limited = executor.with_options(memory_limit=50 << 20)
    with pytest.raises(warmfork.LimitExceeded) as caught:
        limited.submit(jobs.hold, 120 << 20, str(path)).result(20)
    assert (caught.value.limit, caught.value.value) == ("memory", 50 << 20)
    assert caught.value.seen > 50 << 20
    assert limited.submit(pow, 2, 3).result(10) == 8


def test_limits_are_retried_only_where_they_are_named(executor):
    limited = executor.with_options(timeout=0.05, retries=1)
    with pytest.raises(warmfork.TaskTimeout):
        limited.submit(time.sleep, 60).result(10)
    assert executor.stats()["retried"] == 0
    again = executor.with_options(timeout=0.05, retries=1, retry_on=(warmfork.TaskTimeout,))
    future = again.submit(time.sleep, 60)
    with pytest.raises(warmfork.TaskTimeout):
        future.result(10)
    assert (future.attempts, executor.stats()["retried"]) == (2, 1)
    pid = future.pid
    executor.shutdown()  # by then it is known how its worker has ended, which is no third start
    assert (future.attempts, future.pid) == (2, pid)


def test_small_tasks_do_not_wait_behind_a_long_one_while_a_worker_has_nothing_to_do(executor, gate):
    """All of them are in hand before the long one shows that it is long."""
    executor.warm()
    first = executor.submit(jobs.wait_for, gate.path)
    futures = [executor.submit(jobs.negate, number) for number in range(500)]
    assert [future.result(10) for future in futures] == [-number for number in range(500)]
    gate.open()
    first.result(10)


def test_two_tasks_that_wait_for_each_other_both_run(executor, make_gate):
    one, two = make_gate("one"), make_gate("two")
    quick = [executor.submit(jobs.negate, number) for number in range(200)]
    first = executor.submit(jobs.open_and_wait, one.path, two.path)
    second = executor.submit(jobs.open_and_wait, two.path, one.path, False)
    assert first.result(10) == second.result(10) == "met"
    concurrent.futures.wait(quick, 10)


def test_no_more_are_under_way_than_it_may_have(make, gate):
    executor = make(1, max_pending=3)
    futures = [executor.submit(jobs.wait_for, gate.path), executor.submit(pow, 1, 1), executor.submit(pow, 1, 1)]

    async def submit_in_a_loop() -> None:
        with pytest.raises(warmfork.Full, match="3 tasks are under way"):
            executor.submit(pow, 1, 1)
        waiting = asyncio.ensure_future(executor.asubmit(pow, 2, 5))
        await asyncio.sleep(0)
        gate_opened = asyncio.get_running_loop().run_in_executor(None, gate.open)
        assert await asyncio.wait_for(waiting, 10) == 32
        await gate_opened

    asyncio.run(submit_in_a_loop())
    assert all(future.result(10) is not None for future in futures)
    for _ in range(10):  # waits, and goes on
        assert executor.submit(pow, 2, 3).result(10) == 8


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"timeout": 0}, ValueError), ({"timeout": "1"}, TypeError), ({"memory_limit": -1}, ValueError),
        ({"retries": -1}, ValueError), ({"retry_on": (3,)}, TypeError), ({"colour": 1}, TypeError),
    ],
)  # fmt: skip
def test_options_that_mean_nothing_are_refused(executor, options, error):
    with pytest.raises(error):
        executor.with_options(**options)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_workers": 0}, ValueError), ({"max_workers": "2"}, TypeError), ({"tasks_per_worker": 0}, ValueError),
        ({"tasks_per_worker": 1.5}, TypeError), ({"initializer": 3}, TypeError), ({"max_pending": 0}, ValueError),
        ({"orphans": "love"}, ValueError),
    ],
)  # fmt: skip
def test_arguments_that_mean_nothing_are_refused(options, error):
    with pytest.raises(error):
        warmfork.Executor(**options)


def test_a_worker_is_replaced_after_so_many_tasks(make):
    executor = make(1, tasks_per_worker=3)
    pids = [executor.submit(jobs.get_pid).result(10) for _ in range(9)]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 3]


def test_many_tasks_go_through_workers_that_are_replaced(make):
    executor = make(2, tasks_per_worker=20)
    futures = [executor.submit(jobs.get_pid) for _ in range(200)]
    pids = [future.result(20) for future in futures]
    assert max(pids.count(pid) for pid in set(pids)) <= 20
    assert executor.stats()["died"] == 0


def test_a_limit_holds_for_a_task_that_an_idle_worker_has_at_once(make):
    """The worker is handed it by submit() itself, while the dispatcher sleeps."""
    executor = make(1)
    executor.submit(pow, 2, 3).result(10)
    wait_until(lambda: executor.stats()["idle"] == 1)
    for _ in range(3):
        with pytest.raises(warmfork.TaskTimeout):
            executor.with_options(timeout=0.05).submit(time.sleep, 60).result(10)
        executor.warm()
        wait_until(lambda: executor.stats()["idle"] == 1 and executor._core.due is None)


def test_stats_tell_what_the_processes_hold_beyond_their_template(executor, tmp_path):
    path = tmp_path / "held"
    future = executor.submit(jobs.hold, 100 << 20, str(path))
    wait_until(path.exists)
    assert 100 << 20 <= sum(executor.stats()["memory"].values()) < 150 << 20
    future.cancel()
    wait_until(lambda: sum(executor.stats()["memory"].values()) < 100 << 20)
