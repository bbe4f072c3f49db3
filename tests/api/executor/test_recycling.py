"""Workers that are replaced: since they are old, or hold much. Never in the middle of a task."""

from __future__ import annotations

import logging
import os
import time

import pytest

import warmfork
from tests.api.executor import jobs
from tests.support import wait_until

MIB = 1 << 20


def test_a_worker_is_replaced_when_it_is_old(make):
    executor = make(1, worker_max_age=0.3)
    first = executor.submit(os.getpid).result(10)
    wait_until(lambda: executor.submit(os.getpid).result(10) != first)
    wait_until(lambda: not os.path.exists(f"/proc/{first}"))


def test_a_worker_that_has_nothing_to_do_ends_when_it_is_old_and_no_other_comes(make):
    executor = make(1, worker_max_age=0.2)
    executor.submit(os.getpid).result(10)
    wait_until(lambda: executor.stats()["workers"] == 0)
    assert executor.submit(pow, 2, 3).result(10) == 8


def test_a_task_that_runs_is_left_alone_and_no_other_worker_takes_its_place_meanwhile(make, gate):
    executor = make(1, worker_max_age=0.2)
    long = executor.submit(jobs.wait_for, gate.path)
    wait_until(long.running)
    behind = executor.submit(os.getpid)
    slot = executor._core.slots[0]
    wait_until(lambda: slot.worn)
    assert executor.stats()["workers"] == 1 and not behind.done()
    gate.open()
    assert long.result(10) == slot.pid
    assert behind.result(10) != slot.pid


def test_a_worker_is_replaced_that_holds_more_than_it_may(make):
    executor = make(1, worker_max_memory=20 * MIB)
    pids = [executor.submit(jobs.keep, 8 * MIB).result(10) for _ in range(2)]
    assert len(set(pids)) == 1
    wait_until(lambda: executor.submit(jobs.keep, 8 * MIB).result(10) != pids[0])


def test_a_worker_is_kept_whose_tasks_need_much_and_keep_nothing(make):
    executor = make(1, worker_max_memory=20 * MIB)
    pids = set()
    for _ in range(6):
        pids.add(executor.submit(jobs.need, 64 * MIB).result(10))
        executor.submit(time.sleep, 0.006).result(10)  # it looks every 5 ms at most
    assert len(pids) == 1


def test_garbage_that_nobody_has_collected_is_not_what_a_worker_holds(make):
    executor = make(1, worker_max_memory=20 * MIB)
    pids = set()
    for _ in range(8):
        pids.add(executor.submit(jobs.leave_garbage, 8 * MIB).result(10))
        executor.submit(time.sleep, 0.006).result(10)
    assert len(pids) == 1


def test_what_a_worker_is_born_with_counts_not_as_its_own(make):
    with warmfork.Template(preload=[jobs.__name__, f"{jobs.__name__}:hold_much"], spares=0) as template:
        executor = warmfork.Executor(1, template=template, worker_max_memory=20 * MIB)
        try:
            pids = {executor.submit(os.getpid).result(10) for _ in range(200)}
            assert len(pids) == 1
        finally:
            executor.kill_workers()


def test_no_task_is_lost_or_done_twice_where_workers_are_replaced_all_the_time(make, tmp_path):
    executor = make(2, worker_max_age=0.02, worker_max_memory=MIB)
    path = str(tmp_path / "log")
    futures = [executor.submit(jobs.note, path, str(number)) for number in range(600)]
    assert [future.result(60) for future in futures] == [str(number) for number in range(600)]
    with open(path) as file:
        assert sorted(map(int, file)) == list(range(600))
    assert executor.stats()["died"] == 0


def test_one_line_says_why_workers_are_replaced(make, caplog):
    executor = make(1, worker_max_memory=5 * MIB)
    with caplog.at_level(logging.INFO, "warmfork.executor"):
        pids = {executor.submit(jobs.keep, 8 * MIB).result(10) for _ in range(30)}
    assert len(pids) > 2
    (line,) = [record.getMessage() for record in caplog.records if record.name == "warmfork.executor"]
    assert "worker_max_memory=5,242,880" in line and "after 3 tasks" in line


@pytest.mark.parametrize("wrong", [{"worker_max_age": 0}, {"worker_max_memory": 0}, {"worker_max_memory": -1}])
def test_a_limit_below_anything_is_refused(template, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        warmfork.Executor(1, template=template, **wrong)
