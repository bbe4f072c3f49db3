"""tasks_per_worker=1: a process of its own for each task, forked by one that runs none."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

import warmfork
from tests.api.executor import jobs
from tests.api.executor.test_deaths import is_alive, read_lines
from tests.support import wait_until


@pytest.fixture
def fresh(make):
    return make(2, tasks_per_worker=1)


def test_each_task_has_a_process_of_its_own_and_says_which(fresh):
    futures = [fresh.submit(jobs.get_pid) for _ in range(20)]
    pids = [future.result(10) for future in futures]
    assert len(set(pids)) == 20
    assert [future.pid for future in futures] == pids
    assert fresh.stats()["workers"] <= 2
    assert not set(pids) & {slot.pid for slot in fresh._core.slots}


def test_nothing_of_one_task_is_seen_by_the_next(fresh):
    for _ in range(4):
        assert fresh.submit(jobs.begin_and_read, "x").result(10) == ["x"]


def test_each_has_its_own_random_numbers(fresh):
    assert len({fresh.submit(jobs.draw).result(10) for _ in range(6)}) == 6


def test_the_initializer_runs_in_each_and_its_error_is_the_tasks(make, tmp_path):
    executor = make(1, tasks_per_worker=1, initializer=jobs.begin, initargs=("a",))
    assert [executor.submit(jobs.read_state).result(10) for _ in range(3)] == [["a"]] * 3
    failing = make(1, tasks_per_worker=1, initializer=jobs.fail_to_begin, initargs=(str(tmp_path / "log"),))
    with pytest.raises(RuntimeError, match="no database"):
        failing.submit(pow, 2, 3).result(10)


def test_a_crash_says_where_and_costs_its_own_task(fresh):
    with pytest.raises(warmfork.WorkerDied, match="SIGSEGV") as caught:
        fresh.submit(jobs.crash).result(10)
    assert "in crash" in caught.value.stack
    with pytest.raises(warmfork.WorkerDied) as caught:
        fresh.submit(jobs.leave, 3).result(10)
    assert caught.value.outcome == warmfork.Exited(3)
    assert fresh.submit(pow, 2, 3).result(10) == 8
    assert fresh.stats()["died"] == 2


def test_what_a_task_raises_and_what_cannot_be_sent_is_told(fresh):
    with pytest.raises(jobs.Two):
        fresh.submit(jobs.raise_two).result(10)
    with pytest.raises(warmfork.ResultError, match="can't be pickled"):
        fresh.submit(jobs.give_unpicklable).result(10)
    data = os.urandom(300_000)
    assert fresh.submit(jobs.pass_on, data).result(10) == data
    assert list(fresh.map(jobs.negate, range(50))) == [-number for number in range(50)]


def test_a_task_that_runs_is_cancelled_and_its_finally_is_run(fresh, tmp_path):
    path = tmp_path / "log"
    future = fresh.submit(jobs.note_when_ended, str(path))
    wait_until(lambda: path.exists() and read_lines(path) == ["begun"])
    workers = {slot.pid for slot in fresh._core.slots}
    assert future.cancel()
    wait_until(lambda: read_lines(path) == ["begun", "ended"])
    assert fresh.submit(pow, 2, 3).result(10) == 8
    assert workers <= {slot.pid for slot in fresh._core.slots}, "who forks is not hurt"


def test_a_task_that_listens_to_no_signal_is_killed_with_all_that_it_started(fresh, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    futures = [fresh.submit(jobs.ignore_signals, str(one)), fresh.submit(jobs.start_sleeper, str(two))]
    wait_until(lambda: one.exists() and two.exists() and read_lines(two))
    pids = [int(read_lines(path)[0]) for path in (one, two)]
    for future in futures:
        assert future.cancel()
    wait_until(lambda: not any(map(is_alive, pids)))


def test_limits_hold(fresh, tmp_path):
    with pytest.raises(warmfork.TaskTimeout):
        fresh.with_options(timeout=0.1).submit(jobs.note_when_ended, str(tmp_path / "log")).result(10)
    with pytest.raises(warmfork.LimitExceeded, match="memory"):
        fresh.with_options(memory_limit=50 << 20).submit(jobs.hold, 120 << 20, str(tmp_path / "x")).result(20)
    again = fresh.with_options(timeout=0.05, retries=1, retry_on=(warmfork.TaskTimeout,))
    future = again.submit(jobs.sleep_once, str(tmp_path / "once"))
    assert (future.result(10), future.attempts) == ("second", 2)


def test_a_killed_forker_takes_its_task_along_and_no_other(fresh, tmp_path):
    path = tmp_path / "log"
    future = fresh.submit(jobs.ignore_signals, str(path))
    wait_until(path.exists)
    pid = int(read_lines(path)[0])
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(parent, signal.SIGKILL)
    with pytest.raises(warmfork.WorkerDied):
        future.result(10)
    wait_until(lambda: not is_alive(pid))
    assert fresh.submit(pow, 2, 3).result(10) == 8


def test_what_a_task_leaves_behind_is_ended(fresh, tmp_path):
    path = tmp_path / "pids"
    assert fresh.submit(jobs.start_daemon, str(path)).result(10) == "done"
    pid = int(read_lines(path)[0])
    wait_until(lambda: not is_alive(pid))


def test_output_is_kept(make):
    executor = make(1, tasks_per_worker=1, capture_output=True)
    future = executor.submit(jobs.say, "one")
    assert (future.result(10), future.output) == ("one", "one\nONE\n")
    with pytest.raises(warmfork.WorkerDied) as caught:
        executor.submit(jobs.write_and_leave, "so far").result(10)
    assert caught.value.output == "so far\n"
    future = executor.submit(jobs.say, "two")
    assert (future.result(10), future.output) == ("two", "two\nTWO\n")


def test_exit_handlers_of_a_task_are_run(fresh, tmp_path):
    path = tmp_path / "log"
    fresh.submit(jobs.note_at_exit, str(path)).result(10)
    wait_until(lambda: read_lines(path) == ["exit"])


def test_the_end_of_a_worker_is_not_mistaken_for_that_of_its_last_task(make):
    """What a worker says of a task's process comes when it is being ended itself."""
    for _ in range(15):
        executor = make(2, tasks_per_worker=1)
        for future in [executor.submit(jobs.negate, number) for number in range(20)]:
            future.result(10)
        began = time.monotonic()
        executor.kill_workers()
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("forged", ["bystander", 2**63, 0])
def test_a_task_that_says_that_another_process_runs_it_is_ended_and_that_one_is_not(make, forged):
    """The task may have fewer rights than the program, which ends it."""
    executor = make(1, tasks_per_worker=1)
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        task = executor.with_options(timeout=0.3).submit(jobs.claim, bystander.pid if forged == "bystander" else forged)
        with pytest.raises(warmfork.TaskTimeout):
            task.result(10)
        assert executor.submit(pow, 2, 3).result(10) == 8
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
