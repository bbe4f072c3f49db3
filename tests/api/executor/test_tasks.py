"""Calls, what they give, and what they raise."""

from __future__ import annotations

import concurrent.futures
import os
import pickle
import signal
import threading
import traceback

import numpy
import pytest

import warmfork
from tests.api.executor import jobs
from tests.support import wait_until


def test_a_call_is_made_in_another_process_and_its_value_comes_back(executor):
    future = executor.submit(jobs.get_pid)
    assert future.result(10) != os.getpid()
    assert future.pid == future.result()
    assert (future.attempts, future.started, future.name) == (1, True, "get_pid")
    assert executor.submit(sorted, [2, 1], reverse=True).result(10) == [2, 1]


def test_ten_thousand_tasks_are_done_each_once_and_in_whatever_order(executor, tmp_path):
    futures = [executor.submit(jobs.negate, number) for number in range(10_000)]
    assert [future.result(30) for future in futures] == [-number for number in range(10_000)]
    assert executor.stats()["done"] == 10_000


def test_workers_are_used_again_and_no_more_of_them_are_started_than_it_may_have(executor):
    assert len({executor.submit(jobs.get_pid).result(10) for _ in range(50)}) <= 2


def test_one_that_comes_alone_needs_one_worker(make):
    executor = make(4)
    for _ in range(5):
        executor.submit(jobs.get_pid).result(10)
    assert executor.stats()["workers"] == 1


def test_what_a_call_raises_is_raised_with_its_traceback_there(executor):
    future = executor.submit(jobs.explode, "boom")
    with pytest.raises(ValueError, match="boom") as caught:
        future.result(10)
    text = "".join(traceback.format_exception(caught.value))
    assert "in explode" in text and "raise ValueError(text)" in text
    assert future.exception() is caught.value


def test_an_exception_whose_constructor_takes_two_arguments_arrives_whole(executor):
    with pytest.raises(jobs.Two) as caught:
        executor.submit(jobs.raise_two).result(10)
    assert (caught.value.left, caught.value.right) == ("one", "two")


def test_a_value_that_cannot_be_pickled_costs_its_own_task(executor):
    with pytest.raises(warmfork.ResultError, match=r"can't be pickled.*lock"):
        executor.submit(jobs.give_unpicklable).result(10)
    assert executor.submit(pow, 2, 3).result(10) == 8
    assert executor.stats()["died"] == 0


def test_a_value_that_cannot_be_unpickled_here_costs_its_own_task(executor):
    with pytest.raises(warmfork.ResultError, match="can't be unpickled here: ValueError: not here"):
        executor.submit(jobs.OnlyThere, os.getpid()).result(10)
    assert executor.submit(pow, 2, 3).result(10) == 8


def test_an_argument_that_cannot_be_pickled_is_the_futures_error_and_names_the_part(executor):
    future = executor.submit(jobs.pass_on, {"here": threading.Lock()})
    with pytest.raises(TypeError, match=r"\['here'\]"):
        future.result(10)


def test_an_argument_that_cannot_be_unpickled_there_costs_its_own_task(executor):
    with pytest.raises(ValueError, match="on arrival"):
        executor.submit(jobs.pass_on, jobs.Explosive()).result(10)
    assert executor.submit(pow, 2, 3).result(10) == 8


def test_a_result_is_unpickled_by_who_asks_and_once(executor):
    seen = []
    future = executor.submit(jobs.pass_on, 1)
    concurrent.futures.wait([future], 10)
    loads = pickle.loads

    def count(*args, **kwargs):
        seen.append(threading.get_ident())
        return loads(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pickle, "loads", count)
        assert future.result() == 1
        assert future.result() == 1
    assert seen == [threading.get_ident()]


def test_lambdas_and_functions_of_functions_are_taken(executor):
    base = 40

    def add(number):
        return base + number

    assert executor.submit(add, 2).result(10) == 42
    assert executor.submit(lambda: add).result(10)(3) == 43


def test_arguments_are_taken_as_they_are_at_submit(make, gate):
    executor = make(1)
    executor.submit(jobs.wait_for, gate.path)
    values = [1]
    future = executor.submit(jobs.pass_on, values)
    values.append(2)
    gate.open()
    assert future.result(10) == [1]


@pytest.mark.parametrize("size", [100, 100_000, 3_000_000])
def test_large_arguments_and_results_arrive_whole(executor, size):
    data = os.urandom(size)
    assert executor.submit(jobs.pass_on, data).result(10) == data
    array = numpy.arange(size)
    found = executor.submit(numpy.add, array, 1).result(10)
    assert (found == array + 1).all()
    found[0] = 7  # it is ours to write to


def test_large_and_small_ones_go_together(executor):
    data = os.urandom(200_000)
    futures = [executor.submit(jobs.pass_on, data if n % 3 == 0 else n) for n in range(120)]
    assert [future.result(10) for future in futures] == [data if n % 3 == 0 else n for n in range(120)]


def test_a_tasks_own_keyboard_interrupt_and_exit_are_its_errors_and_cost_no_worker(executor):
    for error in (KeyboardInterrupt, SystemExit):
        with pytest.raises(error):
            executor.submit(jobs.raise_this, error("mine")).result(10)
    assert executor.stats()["died"] == 0


def test_an_executor_cannot_be_pickled_and_neither_can_a_future(executor):
    with pytest.raises(TypeError, match="make another where the task runs"):
        pickle.dumps(executor)
    with pytest.raises(TypeError, match="belongs to the executor of this process"):
        pickle.dumps(executor.submit(pow, 1, 1))


def test_a_task_can_have_an_executor_of_its_own(executor):
    assert executor.submit(jobs.nest, 5).result(30) == 120


def test_subprocesses_of_a_task_inherit_no_fd_of_ours(executor):
    assert executor.submit(jobs.list_fds).result(20) == []


def test_output_is_kept_where_it_is_asked_for(make):
    executor = make(1, capture_output=True)
    first, second = executor.submit(jobs.say, "one"), executor.submit(jobs.say, "two")
    assert (first.result(10), first.output) == ("one", "one\nONE\n")
    assert (second.result(10), second.output) == ("two", "two\nTWO\n")


def test_workers_take_no_ctrl_c_of_the_terminal(executor):
    pid = executor.submit(jobs.get_pid).result(10)
    assert os.getsid(pid) == pid != os.getsid(0)


def test_a_signal_that_somebody_else_sends_is_the_tasks_to_tell(executor, tmp_path):
    """SIGINT of a stranger is a KeyboardInterrupt of the task, and no more."""
    path = tmp_path / "log"
    future = executor.submit(jobs.note_when_ended, str(path))
    wait_until(path.exists)
    wait_until(lambda: executor.stats()["running"])
    os.kill(executor.stats()["running"][0]["pid"], signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        future.result(10)
    assert executor.stats()["died"] == 0


def test_a_future_that_is_kept_keeps_no_memory_of_its_call(executor):
    future = executor.submit(len, bytes(1_000_000))
    assert future.result(10) == 1_000_000
    assert future._call_memory is None and future._call == b""
