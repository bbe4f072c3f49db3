"""max_pending and max_pending_bytes: how much may be under way, and what becomes of who submits more."""

from __future__ import annotations

import asyncio
import pickle
import threading

import pytest

import warmfork
from tests.api.executor import jobs
from tests.support import wait_until


def submit_aside(executor, *call):
    """Submit in a thread; give the thread, and a list that has the future, or what was raised, when it has ended."""
    got = []

    def run() -> None:
        try:
            got.append(executor.submit(*call))
        except Exception as error:
            got.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, got


def sleeps(executor):
    return len(executor._core.room.sleepers)


def test_who_submits_more_tasks_than_may_be_under_way_waits_until_one_has_ended(make, gate):
    executor = make(1, max_pending=2)
    first, second = executor.submit(jobs.wait_for, gate.path), executor.submit(pow, 2, 2)
    thread, got = submit_aside(executor, pow, 2, 3)
    wait_until(lambda: sleeps(executor) == 1)
    assert not got
    gate.open()
    thread.join(10)
    assert (second.result(10), got[0].result(10)) == (4, 8)
    first.result(10)


def test_who_waits_for_room_goes_on_also_where_nobody_wakes_it(make, gate, monkeypatch):
    """As where whoever did so was interrupted: nothing else would have."""
    monkeypatch.setattr("warmfork.api.executor.room.LOOK_AGAIN", 0.01)
    executor = make(1, max_pending=1)
    first = executor.submit(jobs.wait_for, gate.path)
    thread, got = submit_aside(executor, pow, 2, 3)
    wait_until(lambda: sleeps(executor) == 1)
    executor._core.room.ended.append((1, 0))
    thread.join(10)
    assert not thread.is_alive() and sleeps(executor) == 0
    gate.open()
    first.result(10)
    assert got[0].result(10) == 8


def test_who_submits_more_bytes_than_may_be_under_way_waits_until_they_are_less(make, gate):
    executor = make(1, max_pending_bytes=300_000)
    first = executor.submit(jobs.wait_for, gate.path)
    data = bytes(100_000)
    second = executor.submit(jobs.pass_on, data)
    executor.submit(pow, 2, 2)  # small ones go on
    executor.submit(jobs.pass_on, data)
    thread, got = submit_aside(executor, jobs.pass_on, data)
    wait_until(lambda: sleeps(executor) == 1)
    assert not got
    gate.open()
    thread.join(10)
    assert got[0].result(10) == second.result(10) == data
    first.result(10)


def test_buffers_beside_the_pickle_count(make, gate):
    numpy = pytest.importorskip("numpy")
    executor = make(1, max_pending_bytes=10_000_000)
    first = executor.submit(jobs.wait_for, gate.path)
    executor.submit(len, numpy.zeros(8_000_000, "b"))
    thread, got = submit_aside(executor, len, numpy.zeros(8_000_000, "b"))
    wait_until(lambda: sleeps(executor) == 1)
    gate.open()
    thread.join(20)
    assert got[0].result(20) == 8_000_000
    first.result(10)


def test_a_call_larger_than_all_that_may_be_under_way_goes_alone(make):
    executor = make(2, max_pending_bytes=1000)
    data = bytes(50_000)
    assert [executor.submit(jobs.pass_on, data) for _ in range(3)][2].result(10) == data


def test_in_a_thread_with_an_event_loop_it_raises_and_asubmit_waits(make, gate):
    executor = make(1, max_pending_bytes=1000)
    first = executor.submit(jobs.wait_for, gate.path)

    async def main() -> None:
        with pytest.raises(warmfork.Full, match=r"1,000 bytes of tasks are under way \(max_pending_bytes\)") as caught:
            executor.submit(jobs.pass_on, bytes(1000))
        assert (caught.value.limit, caught.value.option) == (1000, "max_pending_bytes")
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
        waiting = asyncio.ensure_future(executor.asubmit(jobs.pass_on, bytes(1000)))
        await asyncio.sleep(0)
        await asyncio.to_thread(gate.open)
        assert await asyncio.wait_for(waiting, 10) == bytes(1000)

    asyncio.run(main())
    first.result(10)


def test_what_is_awaited_is_pickled_once_however_long_it_waits_for_room(make, gate, monkeypatch):
    executor = make(1, max_pending=1)
    first = executor.submit(jobs.wait_for, gate.path)
    pickled, tries = [], []
    take_on = executor._take_on
    monkeypatch.setattr(executor, "_take_on", lambda *task: (tries.append(task), take_on(*task)))

    class Argument:
        def __reduce__(self):
            pickled.append(self)
            return int, (7,)

    async def main() -> None:
        waiting = asyncio.ensure_future(executor.asubmit(jobs.pass_on, Argument()))
        while len(tries) < 4:
            await asyncio.sleep(0)
        assert len(pickled) == 1
        await asyncio.to_thread(gate.open)
        assert await asyncio.wait_for(waiting, 10) == 7

    asyncio.run(main())
    first.result(10)


def test_a_callback_that_submits_more_than_may_be_under_way_raises_and_holds_nobody_up(make, gate):
    executor = make(1, max_pending=2)
    first = executor.submit(jobs.wait_for, gate.path)
    said = []

    def submit_two(_future) -> None:
        said.append(executor.submit(pow, 2, 4))
        try:
            executor.submit(pow, 2, 5)
        except warmfork.Full as error:
            said.append(error)

    first.add_done_callback(submit_two)
    second = executor.submit(jobs.wait_for, gate.path)
    gate.open()
    first.result(10)
    gate.open()
    second.result(10)
    wait_until(lambda: len(said) == 2)
    assert said[0].result(10) == 16 and isinstance(said[1], warmfork.Full)


def test_who_waits_for_room_is_told_when_the_executor_is_shut_down(make, gate):
    executor = make(1, max_pending=1)
    first = executor.submit(jobs.wait_for, gate.path)
    thread, got = submit_aside(executor, pow, 2, 3)
    wait_until(lambda: sleeps(executor) == 1)
    executor.shutdown(wait=False)
    gate.open()
    thread.join(10)
    assert isinstance(got[0], RuntimeError) and "after shutdown" in str(got[0])
    first.result(10)


def test_what_was_cancelled_refused_or_crashed_makes_room(make, gate):
    executor = make(1, max_pending=2)
    first = executor.submit(jobs.wait_for, gate.path)
    for _ in range(5):
        assert executor.submit(pow, 2, 3).cancel()
    with pytest.raises(Exception, match="pickle"):
        executor.submit(len, threading.Lock()).result(10)
    refused = executor.submit(len, [jobs.Explosive()])
    gate.open()
    with pytest.raises(ValueError, match="on arrival"):
        refused.result(10)
    first.result(10)
    for _ in range(5):
        with pytest.raises(warmfork.WorkerDied):
            executor.submit(jobs.leave, 3).result(10)
    wait_until(lambda: executor._core.room.count() == (0, 0))


def test_many_threads_that_submit_never_have_more_under_way_than_may_be(make):
    executor = make(2, max_pending=5)
    seen = []

    def submit_many() -> None:
        for number in range(100):
            future = executor.submit(pow, number, 1)
            seen.append(executor._core.room.count()[0])
            assert future.result(30) == number

    threads = [threading.Thread(target=submit_many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(seen) == 800 and max(seen) <= 5
    wait_until(lambda: executor._core.room.count() == (0, 0))


def test_a_map_waits_for_room_as_submit_does(make):
    executor = make(2, max_pending=2)
    assert list(executor.map(jobs.negate, range(100), chunksize=5)) == [-number for number in range(100)]
    results = executor.map(jobs.negate, range(100), chunksize=50)
    next(results)
    results.close()
    assert executor.submit(pow, 2, 3).result(10) == 8
    wait_until(lambda: executor._core.room.count() == (0, 0))
