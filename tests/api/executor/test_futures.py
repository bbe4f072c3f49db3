"""The lean future stands in for the standard one wherever that is used."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading

import pytest

import warmfork
from tests.api.executor import jobs
from tests.support import run_program, wait_until
from warmfork.api.executor.futures import TaskFuture


def test_it_is_a_future_and_makes_no_lock_before_somebody_waits(executor):
    future = executor.submit(pow, 2, 3)
    assert isinstance(future, concurrent.futures.Future)
    wait_until(future.done)
    assert "_cond" not in vars(future)
    assert "_sleepers" not in vars(future)
    assert future.result(0) == 8


def test_wait_sees_those_that_end_before_and_after(executor, gate):
    futures = [
        executor.submit(pow, 2, 3),
        executor.submit(jobs.wait_for, gate.path),
        executor.submit(jobs.explode, "x"),
    ]
    first = concurrent.futures.wait(futures, 10, return_when=concurrent.futures.FIRST_COMPLETED)
    assert first.done
    second = concurrent.futures.wait(futures[1:], 10, return_when=concurrent.futures.FIRST_EXCEPTION)
    assert futures[2] in second.done and futures[1] in second.not_done
    gate.open()
    assert concurrent.futures.wait(futures, 10).done == set(futures)
    assert concurrent.futures.wait(futures, 0).done == set(futures)


def test_as_completed_gives_each_once(executor):
    futures = [executor.submit(jobs.negate, number) for number in range(500)]
    assert sorted(future.result() for future in concurrent.futures.as_completed(futures, 20)) == list(range(-499, 1))


def test_wait_for_all_ends_while_results_come(executor):
    """The futures end while the waiter counts them."""
    for _ in range(30):
        futures = [executor.submit(jobs.negate, number) for number in range(40)]
        assert concurrent.futures.wait(futures, 20).done == set(futures)


def test_many_threads_wait_for_one(executor, gate):
    future = executor.submit(jobs.wait_for, gate.path)
    seen = []
    threads = [threading.Thread(target=lambda: seen.append(future.result(10))) for _ in range(8)]
    for thread in threads:
        thread.start()
    gate.open()
    for thread in threads:
        thread.join()
    assert seen == [future.pid] * 8


def test_result_with_a_time_raises_and_leaves_nothing(executor, gate):
    future = executor.submit(jobs.wait_for, gate.path)
    for timeout in (0, 0.01, -1):
        with pytest.raises(TimeoutError):
            future.result(timeout)
    assert future._sleepers == []
    gate.open()
    assert future.exception(10) is None


def test_callbacks_are_called_once_each_in_order_whoever_comes_first(executor, gate):
    seen = []
    future = executor.submit(jobs.wait_for, gate.path)
    for number in range(3):
        future.add_done_callback(lambda done, number=number: seen.append((number, done is future)))
    gate.open()
    future.result(10)
    wait_until(lambda: len(seen) == 3)
    future.add_done_callback(lambda done: seen.append((3, done is future)))
    assert seen == [(number, True) for number in range(4)]


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_a_callback_that_raises_concerns_nobody_else(executor, gate, caplog, error):
    seen = []

    def fail(_future):
        raise error("mine")

    future = executor.submit(jobs.wait_for, gate.path)
    future.add_done_callback(fail)
    future.add_done_callback(seen.append)
    with caplog.at_level(logging.ERROR, "warmfork.executor"):
        gate.open()
        wait_until(lambda: seen == [future])
    assert "exception calling callback" in caplog.text
    assert executor.submit(pow, 2, 3).result(10) == 8


def test_a_callback_may_submit_and_may_not_wait(executor):
    said = []

    def submit_and_wait(_future):
        other = executor.submit(pow, 2, 5)
        said.append(other)
        try:
            other.result()
        except RuntimeError as error:
            said.append(str(error))

    executor.submit(pow, 1, 1).add_done_callback(submit_and_wait)
    wait_until(lambda: len(said) == 2)
    assert "callbacks run in the thread that brings the results" in said[1]
    assert said[0].result(10) == 32


def test_asyncio_takes_it_for_its_own(executor):
    async def main():
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(executor, pow, 2, 3) == 8
        with pytest.raises(ValueError, match="boom"):
            await loop.run_in_executor(executor, jobs.explode, "boom")
        assert await asyncio.wrap_future(executor.submit(pow, 2, 4)) == 16
        futures = [loop.run_in_executor(executor, jobs.negate, number) for number in range(200)]
        assert await asyncio.gather(*futures) == [-number for number in range(200)]

    asyncio.run(main())


def test_the_first_end_wins(executor):
    future = TaskFuture(executor._core, executor._options)
    assert future._publish("FINISHED", 0, b"\x80\x05K\x01.", None, 0.0) is True
    assert future._publish("FINISHED", -1, ValueError(), None, 0.0) is False
    assert not future.cancel()
    assert future.result() == 1


def test_an_end_does_not_wait_for_a_lock_that_nobody_will_give_back(executor, gate):
    """^C can lose a lock for ever: here, one whose thread has left it locked."""
    future = executor.submit(jobs.wait_for, gate.path)
    thread = threading.Thread(target=future._condition.acquire)
    thread.start()
    thread.join()
    gate.open()
    assert future.result(10) == future.pid
    assert executor.submit(pow, 2, 3).result(10) == 8


def test_a_waiter_whose_lock_is_lost_holds_nobody_up(executor, gate):
    future = executor.submit(jobs.wait_for, gate.path)
    with future._condition:
        waiter = concurrent.futures._base._create_and_install_waiters([future], "_AS_COMPLETED")
    waiter.lock.acquire()
    gate.open()
    assert future.result(10) == future.pid
    assert executor.submit(pow, 2, 3).result(10) == 8


def test_ctrl_c_a_thousand_times_loses_no_result(tmp_path):
    """The program is interrupted wherever it may be, in submit() and result(), and each future ends all the same."""
    done = run_program(
        """\
        import operator, os, random, signal, threading, time
        import warmfork

        if __name__ == "__main__":
            with warmfork.Executor(2) as executor:
                executor.submit(pow, 1, 1).result()
                over = threading.Event()

                def interrupt():
                    while not over.wait(0.001):
                        os.kill(os.getpid(), signal.SIGINT)

                futures, hits = [], 0
                thread = threading.Thread(target=interrupt)
                started = False
                until = time.monotonic() + 3
                while True:
                    try:
                        if time.monotonic() > until:
                            over.set()
                            thread.join()
                            time.sleep(0.01)
                            break
                        if not started:
                            started = True
                            thread.start()
                        future = executor.submit(operator.neg, len(futures))
                        futures.append(future)
                        if len(futures) % 7 == 0:
                            future.result(20)
                    except KeyboardInterrupt:
                        hits += 1
                values = [future.result(20) for future in futures]
                assert all(value <= 0 for value in values)
                assert executor.submit(pow, 2, 3).result(20) == 8
            print(hits, len(futures))
        """,
        tmp_path,
        timeout=60,
    )
    hits, count = map(int, done.stdout.split())
    assert hits > 50 and count > 100
    assert "Fatal" not in done.stderr and "CRITICAL" not in done.stderr
    assert "can't go on" not in done.stderr


def test_the_errors_of_the_public_names_are_there():
    for name in (
        "WorkerDied",
        "TaskTimeout",
        "QueueTimeout",
        "ResultError",
        "InitializerError",
        "ExecutorBroken",
        "Full",
    ):
        assert issubclass(getattr(warmfork, name), warmfork.WarmforkError)
