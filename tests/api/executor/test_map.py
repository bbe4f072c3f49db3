"""map() and map_unordered()."""

from __future__ import annotations

import gc
import itertools
import os
import time
import weakref

import pytest

import warmfork
from tests.api.executor import jobs
from tests.api.executor.test_deaths import read_lines
from tests.support import wait_until


@pytest.mark.parametrize("chunksize", [None, 1, 7, 5000])
def test_results_come_in_order(executor, chunksize):
    assert list(executor.map(jobs.negate, range(2000), chunksize=chunksize)) == [-number for number in range(2000)]
    assert list(executor.map(pow, [2, 3], [3, 2, 9], chunksize=chunksize)) == [8, 9]
    assert list(executor.map(pow, [], chunksize=chunksize)) == []


def test_all_is_submitted_at_once_and_done_without_anybody_asking(executor, tmp_path):
    path = tmp_path / "log"
    executor.map(jobs.note, itertools.repeat(str(path), 40), map(str, range(40)))
    wait_until(lambda: len(read_lines(path)) == 40)
    assert sorted(map(int, read_lines(path))) == list(range(40))


def test_with_a_buffer_items_are_taken_as_results_are(executor):
    taken = []

    def give():
        for number in itertools.count():
            taken.append(number)
            yield number

    results = executor.map(jobs.negate, give(), buffersize=3)
    assert len(taken) == 3
    assert [next(results) for _ in range(5)] == [0, -1, -2, -3, -4]
    assert len(taken) == 8
    results.close()


@pytest.mark.parametrize("chunksize", [None, 10])
def test_what_an_item_raises_comes_in_its_place_and_the_others_are_done_all_the_same(executor, tmp_path, chunksize):
    results = executor.map(jobs.fail_at, range(100), itertools.repeat(37), chunksize=chunksize)
    seen = []
    with pytest.raises(ValueError, match="item 37"):
        seen.extend(results)
    assert seen == list(range(37))


def test_a_long_slice_goes_on_a_part_at_a_time_and_holds_nobody_up(make):
    """One worker: a task that is submitted behind a slice of 40 items has its turn before the slice is done."""
    executor = make(1)
    slow = executor.map(time.sleep, [0.02] * 40, chunksize=40)
    assert executor.submit(pow, 2, 3).result(10) == 8
    part = executor.stats()["queued"] + len(executor.stats()["running"])
    assert part > 0
    assert list(slow) == [None] * 40


def test_a_crash_costs_its_own_slice(executor):
    results = executor.map(jobs.leave_at, range(40), itertools.repeat(25), chunksize=10)
    assert [next(results) for _ in range(20)] == list(range(20))
    with pytest.raises(warmfork.WorkerDied):
        list(results)


def test_one_that_takes_no_more_has_the_rest_cancelled(make, gate):
    executor = make(1)
    waiting = executor.submit(jobs.wait_for, gate.path)
    wait_until(waiting.running)
    results = executor.map(jobs.negate, range(100), chunksize=1)
    with pytest.raises(TimeoutError):
        next(executor.map(jobs.negate, [1], timeout=0.01))
    taken = iter(results)
    gate.open()
    assert next(taken) == 0
    taken.close()
    assert executor.submit(pow, 2, 3).result(10) == 8


def test_time_is_for_all_of_it(executor):
    results = executor.map(time.sleep, [600], timeout=0.05)
    with pytest.raises(TimeoutError):
        next(results)


def test_unordered_results_come_as_they_are_there(executor, gate):
    results = executor.map_unordered(jobs.wait_or_pass, [gate.path, "one", "two", "three"])
    assert {next(results) for _ in range(3)} == {"one", "two", "three"}
    gate.open()
    assert list(results) == [gate.path]


def test_unordered_takes_items_as_results_are_taken(executor):
    taken = []

    def give():
        for number in range(1000):
            taken.append(number)
            yield number

    results = executor.map_unordered(jobs.negate, give(), buffersize=4)
    assert len(taken) == 4
    assert next(results) <= 0
    assert len(taken) == 5
    assert len(list(results)) == 999


@pytest.mark.parametrize(
    ("options", "error"),
    [({"chunksize": 0}, ValueError), ({"buffersize": 0}, ValueError), ({"buffersize": "1"}, TypeError)],
)
def test_options_that_mean_nothing_are_refused(executor, options, error):
    with pytest.raises(error):
        executor.map(pow, [1], [1], **options)


def test_large_items_and_results_go_through_a_map(executor):
    data = [os.urandom(50_000) for _ in range(20)]
    assert list(executor.map(jobs.pass_on, data)) == data
    assert list(executor.map(jobs.pass_on, data, chunksize=20)) == data


class Large:
    """What a result may be: somebody wants to know when it is gone."""


def make_large(_number: int) -> Large:
    return Large()


def test_a_result_is_let_go_when_whoever_took_it_lets_go(executor):
    for results in (executor.map(make_large, range(10)), executor.map(make_large, range(10), chunksize=10)):
        for result in results:
            seen = weakref.ref(result)
            del result
            assert seen() is None


def test_the_results_of_a_map_do_not_hold_the_executor(template):
    executor = warmfork.Executor(2, template=template)
    results = executor.map(jobs.negate, range(20))
    runner = executor._core.runner
    del executor
    gc.collect()
    runner.join(20)
    assert not runner.is_alive()
    assert list(results) == [-number for number in range(20)]
