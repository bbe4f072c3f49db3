"""cancel(): what waits never starts, what runs is ended, and its neighbours go on."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from pathlib import Path

import pytest

import warmfork
from tests.api.executor import jobs
from tests.api.executor.test_deaths import is_alive, read_lines
from tests.support import wait_until
from warmfork._tasks.work import CLAIMED, REVOKED


def test_a_task_that_runs_is_interrupted_and_its_finally_is_run(executor, tmp_path):
    path = tmp_path / "log"
    future = executor.submit(jobs.note_when_ended, str(path))
    wait_until(path.exists)
    assert future.running()
    assert future.cancel()
    assert future.cancelled() and future.done() and not future.running()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result()
    wait_until(lambda: read_lines(path) == ["begun", "ended"])
    assert executor.submit(pow, 2, 3).result(10) == 8


def test_a_task_that_listens_to_no_signal_is_killed(executor, tmp_path):
    path = tmp_path / "log"
    future = executor.submit(jobs.ignore_signals, str(path))
    wait_until(path.exists)
    pid = int(read_lines(path)[0])
    assert future.cancel()
    wait_until(lambda: not is_alive(pid))
    assert executor.submit(pow, 2, 3).result(10) == 8


def test_what_it_has_started_is_ended_with_it_sessions_of_their_own_included(executor, tmp_path):
    path = tmp_path / "pids"
    future = executor.submit(jobs.start_sleeper, str(path))
    wait_until(path.exists)
    pid = int(read_lines(path)[0])
    assert future.cancel()
    wait_until(lambda: not is_alive(pid))


def test_a_task_that_waits_in_the_queue_never_starts(make, gate, tmp_path):
    executor = make(1)
    path = tmp_path / "log"
    first = executor.submit(jobs.wait_for, gate.path)
    wait_until(first.running)
    second = executor.submit(jobs.note, str(path), "second")
    third = executor.submit(jobs.note, str(path), "third")
    assert second.cancel() and second.cancelled()
    gate.open()
    assert third.result(10) == "third"
    assert read_lines(path) == ["third"]


def test_a_task_that_a_worker_has_in_hand_never_starts_and_its_neighbours_do(make, gate, tmp_path):
    """The worker has several tasks in its socket, behind one that it runs."""
    executor = make(1)
    executor.submit(pow, 1, 1).result(10)
    path = tmp_path / "log"
    slot = executor._core.slots[0]
    first = executor.submit(jobs.wait_for, gate.path)
    wait_until(first.running)
    futures = [executor.submit(jobs.note, str(path), str(number)) for number in range(20)]
    with executor._core.lock:
        executor._core.give(slot, 20)
    assert sum(future._slot is slot for future in futures) == 20
    assert all(future.cancel() for future in futures[::2])
    gate.open()
    assert [future.result(10) for future in futures[1::2]] == [str(number) for number in range(1, 20, 2)]
    assert sorted(map(int, read_lines(path))) == list(range(1, 20, 2))
    assert executor.stats()["died"] == 0


def test_what_was_cancelled_never_starts_even_if_the_dispatcher_has_no_time(make, gate, tmp_path):
    """From the moment at which cancel() returns."""
    executor = make(1)
    executor.submit(pow, 1, 1).result(10)
    path = tmp_path / "log"
    slot = executor._core.slots[0]
    first = executor.submit(jobs.wait_for, gate.path)
    wait_until(first.running)
    futures = [executor.submit(jobs.note, str(path), str(number)) for number in range(20)]
    busy, go_on = threading.Event(), threading.Event()
    executor._core.post(lambda: (busy.set(), go_on.wait(10)))
    assert busy.wait(10)
    with executor._core.lock:
        executor._core.give(slot, 20)
    assert all(future.cancel() for future in futures)
    gate.open()
    wait_until(lambda: slot.page.words[0] == slot.sent)
    go_on.set()
    assert first.result(10) > 0
    assert executor.submit(jobs.note, str(path), "last").result(10) == "last"
    assert read_lines(path) == ["last"]


def test_a_task_that_a_worker_has_come_to_meanwhile_is_not_ended_for_the_one_before_it(
    make, make_gate, monkeypatch, tmp_path
):
    """The one that is cancelled ends by itself at that moment: what is behind it was taken back first."""
    executor = make(1)
    executor.submit(pow, 1, 1).result(10)
    core, slot = executor._core, executor._core.slots[0]
    gates, log = [make_gate("first"), make_gate("second")], tmp_path / "log"
    first = executor.submit(jobs.wait_for, gates[0].path)
    wait_until(lambda: slot.get_running() and first.running())
    second = executor.submit(jobs.note_and_wait, str(log), gates[1].path)
    with core.lock:
        core.give(slot, 1)
    assert second._slot is slot
    number, kill = second._number, core.kill_runner

    def kill_late(*given: object) -> None:
        gates[0].open()
        wait_until(lambda: slot.page.words[CLAIMED] == number and (slot.page.words[REVOKED] == number or log.exists()))
        kill(*given)

    monkeypatch.setattr(core, "kill_runner", kill_late)
    assert first.cancel()
    gates[1].open()
    assert second.result(10) > 0 and second.attempts == 1
    assert len(read_lines(log)) == 1


def test_a_worker_is_not_ended_for_a_task_that_it_is_just_about_to_begin_with(make, gate, tmp_path):
    """It may not have begun, and be at the end of the one before: who runs is asked for, and only then ended."""
    executor = make(1)
    executor.submit(pow, 1, 1).result(10)
    core, slot, log = executor._core, executor._core.slots[0], tmp_path / "log"
    first = executor.submit(jobs.wait_for, gate.path)
    wait_until(lambda: slot.get_running() and first.running())
    second = executor.submit(jobs.note, str(log), "second")
    with core.lock:
        core.give(slot, 1)
        slot.page.words[CLAIMED] = second._number  # as if it were at it
    assert second.cancel()
    wait_until(lambda: core.undecided, what="it is not known")
    gate.open()
    assert first.result(10) > 0
    assert executor.submit(pow, 2, 3).result(10) == 8
    assert not log.exists()


def test_cancelling_tasks_of_a_busy_worker_never_ends_their_neighbours(executor):
    """Each fifth of many quick tasks is cancelled while they run: those that had begun cost their own process only."""
    kept, cancelled = [], []
    for number in range(1500):
        future = executor.submit(jobs.negate, number)
        if number % 5:
            kept.append((number, future))
        else:
            cancelled.append((number, future))
            if number % 15 == 0:
                future.cancel()
    for _, future in cancelled:
        future.cancel()
    assert [future.result(30) for _, future in kept] == [-number for number, _ in kept]
    for number, future in cancelled:
        assert future.cancelled() or future.result() == -number
    assert all(future.attempts == 1 for _, future in kept)


def test_wait_and_as_completed_see_cancelled_futures(make, gate):
    executor = make(1)
    first = executor.submit(jobs.wait_for, gate.path)
    others = [executor.submit(pow, 2, 3) for _ in range(3)]
    assert others[0].cancel()
    done, _ = concurrent.futures.wait([others[0]], 5)
    assert done == {others[0]}
    gate.open()
    assert set(concurrent.futures.as_completed([first, *others], 10)) == {first, *others}


def test_cancel_says_no_when_it_is_over(executor):
    future = executor.submit(pow, 2, 3)
    assert future.result(10) == 8
    assert not future.cancel()
    assert not future.cancelled()
    assert future.result() == 8


def test_without_cancel_running_it_says_no_of_what_runs(make, gate):
    executor = make(1, cancel_running=False)
    first = executor.submit(jobs.wait_for, gate.path)
    wait_until(first.running)
    second = executor.submit(pow, 2, 3)
    assert not first.cancel()
    assert second.cancel()
    gate.open()
    assert first.result(10) > 0


def test_without_barriers_of_the_kernel_it_is_the_same(make, gate, tmp_path, monkeypatch):
    """Where a filter refuses membarrier(2), what is taken back is known a moment later."""
    monkeypatch.setattr("warmfork._tasks.barrier.issue", lambda: False)
    test_a_task_that_a_worker_has_in_hand_never_starts_and_its_neighbours_do(make, gate, tmp_path)
    test_cancelling_tasks_of_a_busy_worker_never_ends_their_neighbours(make(2))


def test_run_in_executor_that_is_cancelled_ends_the_process(executor, tmp_path):
    path = tmp_path / "log"

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.run_in_executor(executor, jobs.note_when_ended, str(path)), 0.5)

    asyncio.run(main())
    wait_until(lambda: not executor.stats()["running"])
    if Path(path).exists():
        wait_until(lambda: read_lines(path) == ["begun", "ended"])


def test_a_stopped_worker_is_ended_too(executor, tmp_path):
    path = tmp_path / "log"
    future = executor.submit(jobs.note_when_ended, str(path))
    wait_until(path.exists)
    pid = executor.stats()["running"][0]["pid"]
    os.kill(pid, 19)
    assert future.cancel()
    wait_until(lambda: not is_alive(pid))


def test_a_fork_is_told_whose_future_it_is(executor, gate):
    from tests.support import run_forked

    future = executor.submit(jobs.wait_for, gate.path)
    wait_until(future.running)
    told, other = run_forked(ask_in_fork, future, executor)
    assert told == "ForkedError"
    assert other == 8
    gate.open()
    assert future.result(10) > 0


def ask_in_fork(future, executor):
    try:
        future.result(5)
    except warmfork.ForkedError as error:
        told = type(error).__name__
    with executor:
        return told, executor.submit(pow, 2, 3).result(20)
