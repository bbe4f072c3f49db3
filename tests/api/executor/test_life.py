"""From the first worker to the last: initializers, shutdown, exit, forks, what is dropped and what is left."""

from __future__ import annotations

import concurrent.futures
import gc
import logging
import os
import threading
import time
import weakref

import pytest

import warmfork
from tests.api.executor import jobs
from tests.api.executor.test_deaths import is_alive, read_lines
from tests.support import run_program, wait_until
from warmfork._machine import calls


def list_pages(pid: int) -> set[str]:
    """List the memory that an executor shares with its workers, of what this process has mapped."""
    with open(f"/proc/{pid}/maps") as file:
        return {line.split()[4] for line in file if "warmfork-page" in line}


@pytest.mark.parametrize("tasks_per_worker", [None, 1])
def test_each_worker_shares_memory_with_the_program_and_no_other(make, tasks_per_worker):
    """One could write that its neighbour had begun a task, which nobody did then."""
    executor = make(3, tasks_per_worker=tasks_per_worker)
    executor.warm(3, 20)
    pages = [list_pages(slot.pid) for slot in executor._core.slots]
    assert [len(page) for page in pages] == [1, 1, 1]
    assert len(set.union(*pages)) == 3 and set.union(*pages) <= list_pages(os.getpid())


def test_an_executor_that_can_not_be_made_for_want_of_files_leaves_none_open(monkeypatch):
    def refuse():
        raise OSError(24, "Too many open files")

    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr("warmfork.api.executor.dispatcher.epoll", refuse)
    with pytest.raises(OSError, match="Too many"):
        warmfork.Executor(1)
    assert os.listdir("/proc/self/fd") == before


def test_the_initializer_runs_once_in_each_worker_before_its_tasks(make):
    executor = make(2, initializer=jobs.begin, initargs=("a", 1))
    assert [executor.submit(jobs.read_state).result(10) for _ in range(5)] == [["a", 1]] * 5


def test_an_initializer_that_fails_is_tried_a_few_times_and_told_to_all(make, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("warmfork.api.executor.births.PAUSES", (0.4, 0.01, 0.01))
    path = tmp_path / "log"
    with caplog.at_level(logging.CRITICAL):
        executor = make(1, initializer=jobs.fail_to_begin, initargs=(str(path),))
        futures = [executor.submit(pow, 2, 3) for _ in range(20)]
        errors = [future.exception(20) for future in futures]
    tries = [float(line) for line in read_lines(path)]
    assert len(tries) == 4
    assert tries[1] - tries[0] >= 0.4, "and there is a pause between two tries"
    assert {type(error) for error in errors} == {warmfork.InitializerError}
    assert len({id(error) for error in errors}) == 20, "each has its own: a traceback grows"
    assert errors[0].cause == "RuntimeError: no database"
    assert "in fail_to_begin" in errors[0].traceback
    with pytest.raises(warmfork.InitializerError):
        executor.submit(pow, 2, 3)


def test_an_initializer_that_fails_in_all_workers_at_once_is_tried_again_by_one_at_a_time(make, tmp_path, monkeypatch):
    monkeypatch.setattr("warmfork.api.executor.births.PAUSES", (0.05, 0.05, 0.05))
    path = tmp_path / "log"
    executor = make(8, initializer=jobs.fail_to_begin, initargs=(str(path),))
    futures = [executor.submit(pow, 2, 3) for _ in range(50)]
    assert {type(future.exception(20)) for future in futures} == {warmfork.InitializerError}
    assert 4 <= len(read_lines(path)) <= 8 + 3
    assert isinstance(futures[0].exception(), concurrent.futures.BrokenExecutor)


def test_after_a_failure_that_passes_all_workers_come(make, tmp_path, monkeypatch):
    monkeypatch.setattr("warmfork.api.executor.births.PAUSES", (0.05, 5.0, 5.0))
    path = tmp_path / "log"
    executor = make(3, initializer=jobs.fail_the_first_time, initargs=(str(path),))
    assert executor.submit(pow, 2, 3).result(20) == 8
    executor.warm(timeout=20)
    assert executor.stats()["workers"] == 3


def test_restart_has_a_broken_executor_take_tasks_again(make, tmp_path, monkeypatch):
    monkeypatch.setattr("warmfork.api.executor.births.PAUSES", (0.01,))
    path = tmp_path / "log"
    executor = make(1, initializer=jobs.fail_unless, initargs=(str(path),))
    with pytest.raises(warmfork.InitializerError):
        executor.submit(pow, 2, 3).result(10)
    path.touch()
    executor.restart()
    assert executor.submit(pow, 2, 3).result(10) == 8


def test_restart_ends_the_workers_and_keeps_what_waits(make, gate):
    executor = make(1)
    first = executor.submit(jobs.wait_for, gate.path)
    wait_until(first.running)
    waiting = executor.submit(jobs.get_pid)
    executor.restart()
    with pytest.raises(warmfork.WorkerDied):
        first.result(10)
    assert waiting.result(10) != first.pid


def test_a_preload_that_fails_is_told_to_all(tmp_path):
    with warmfork.Executor(1, preload=["no_such_module"]) as executor:
        with pytest.raises(warmfork.PreloadError, match="no_such_module"):
            executor.submit(pow, 2, 3).result(30)
        with pytest.raises(warmfork.PreloadError):
            executor.submit(pow, 2, 3)


def test_shutdown_waits_for_what_was_submitted(make):
    executor = make(2)
    futures = [executor.submit(jobs.negate, number) for number in range(300)]
    executor.shutdown()
    assert [future.result(0) for future in futures] == [-number for number in range(300)]
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(pow, 1, 1)


def test_shutdown_without_a_wait_lets_it_all_be_done(make, gate):
    executor = make(1)
    first = executor.submit(jobs.wait_for, gate.path)
    second = executor.submit(pow, 2, 3)
    executor.shutdown(wait=False)
    gate.open()
    assert (first.result(10) > 0, second.result(10)) == (True, 8)


def test_shutdown_may_cancel_what_has_not_begun(make, gate):
    executor = make(1)
    first = executor.submit(jobs.wait_for, gate.path)
    wait_until(first.running)
    others = [executor.submit(pow, 2, 3) for _ in range(50)]
    executor.shutdown(wait=False, cancel_futures=True)
    wait_until(lambda: all(future.cancelled() for future in others))
    gate.open()
    assert first.result(10) > 0


@pytest.mark.parametrize("how", ["terminate_workers", "kill_workers"])
def test_terminate_and_kill_end_everything(make, gate, how):
    executor = make(1)
    first = executor.submit(jobs.wait_for, gate.path)
    wait_until(first.running)
    second = executor.submit(pow, 2, 3)
    getattr(executor, how)()
    with pytest.raises(warmfork.WorkerDied):
        first.result(10)
    assert second.cancelled()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(pow, 1, 1)


def test_shutdown_twice_and_of_one_that_was_never_used(make):
    executor = make(1)
    executor.shutdown()
    executor.shutdown()


def test_one_that_is_dropped_does_its_work_and_ends(template, gate):
    executor = warmfork.Executor(1, template=template)
    core = weakref.ref(executor._core)
    runner = executor._core.runner
    futures = [executor.submit(jobs.wait_for, gate.path), executor.submit(pow, 2, 3)]
    gone = weakref.ref(executor)
    del executor
    gc.collect()
    assert gone() is None
    gate.open()
    assert [future.result(10) for future in futures][1] == 8
    runner.join(10)
    assert not runner.is_alive()
    del futures
    wait_until(lambda: gc.collect() is not None and core() is None)


def test_workers_leave_by_themselves_and_run_their_exit_handlers(make, tmp_path):
    path = tmp_path / "log"
    executor = make(1)
    executor.submit(jobs.note_at_exit, str(path)).result(10)
    executor.shutdown()
    assert read_lines(path) == ["exit"]


def test_a_fork_of_the_program_that_holds_all_fds_holds_no_worker(make):
    """The end of a socket is no command: the copy has its other end open."""
    executor = make(1)
    pid = executor.submit(jobs.get_pid).result(10)
    read, write = os.pipe()
    # As a C library would: no handler of ours runs in the copy.
    copy = calls.call("fork")
    if copy == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    began = time.monotonic()
    executor.shutdown()
    assert time.monotonic() - began < 4, "it left when it was told to, and was not ended"
    assert not is_alive(pid)
    os.close(write)
    os.close(read)
    os.waitpid(copy, 0)


def test_at_the_programs_end_all_is_done_first(tmp_path):
    done = run_program(
        """\
        import operator
        import warmfork
        if __name__ == "__main__":
            executor = warmfork.Executor(2)
            for number in range(20):
                executor.submit(operator.neg, number).add_done_callback(lambda future: print(future.result(), flush=True))
        """,
        tmp_path,
    )
    assert sorted(map(int, done.stdout.split())) == list(range(-19, 1))
    assert done.stderr == ""


def test_ctrl_c_in_a_with_block_ends_what_runs(tmp_path):
    done = run_program(
        """\
        import os, signal, time
        import warmfork
        if __name__ == "__main__":
            with warmfork.Executor(1) as executor:
                future = executor.submit(time.sleep, 600)
                while not future.running():
                    time.sleep(0.001)
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(60)
        """,
        tmp_path,
        expect=None,
        timeout=20,
    )
    assert "KeyboardInterrupt" in done.stderr
    assert "Traceback" in done.stderr and done.stderr.count("Traceback") == 1


def test_a_destructor_may_submit_and_cancel_wherever_the_collector_runs(executor):
    """Garbage whose destructors submit and cancel is made while thousands of tasks are submitted."""
    made, old = [], gc.get_threshold()

    class Meddler:
        def __init__(self) -> None:
            self.self = self

        def __del__(self) -> None:
            made.append(executor.submit(jobs.negate, len(made)))
            if len(made) % 3 == 0:
                made[-1].cancel()

    gc.set_threshold(20, 2, 2)
    try:
        futures = []
        for number in range(3000):
            Meddler()
            futures.append(executor.submit(jobs.negate, number))
    finally:
        gc.set_threshold(*old)
    assert [future.result(20) for future in futures] == [-number for number in range(3000)]
    gc.collect()
    assert len(made) == 3000
    concurrent.futures.wait(made, 20)
    assert all(future.done() for future in made)


def test_warm_has_all_workers_at_once(make):
    executor = make(3)
    executor.warm()
    assert executor.stats()["workers"] == 3
    assert executor.stats()["idle"] == 3


def test_stats_tell_what_runs(make, gate):
    executor = make(1)
    first = executor.with_options(name="the first").submit(jobs.wait_for, gate.path)
    executor.submit(pow, 2, 3)
    wait_until(first.running)
    stats = executor.stats()
    assert [one["name"] for one in stats["running"]] == ["the first"]
    assert stats["running"][0]["pid"] == executor._core.slots[0].pid
    assert stats["running"][0]["age"] >= 0
    assert (stats["queued"], stats["workers"], stats["max_workers"]) == (1, 1, 1)
    gate.open()


def test_stats_tell_how_long_tasks_took_from_their_submission(make):
    executor = make(1)
    executor.warm()
    executor.submit(time.sleep, 0.3).result(10)
    with pytest.raises(LookupError):
        executor.submit(jobs.raise_this, LookupError()).result(10)
    latency = executor.stats()["latency"]
    assert sum(latency.values()) == 2
    assert max(latency) > 0.3 and latency[max(latency)] == 1  # each is a power of two of ns
    list(executor.map(jobs.negate, range(10), chunksize=1))
    assert sum(executor.stats()["latency"].values()) == 12


def test_stats_tell_what_each_worker_holds_beyond_its_template(make):
    executor = make(1)
    executor.submit(jobs.keep, 30 << 20).result(10)
    ((pid, held),) = executor.stats()["memory"].items()
    assert pid == executor._core.slots[0].pid
    assert held > 25 << 20


def test_what_a_process_of_one_task_held_is_gone_with_it(make):
    executor = make(1, tasks_per_worker=1)
    executor.submit(jobs.keep, 30 << 20).result(10)
    wait_until(lambda: sum(executor.stats()["memory"].values()) < 25 << 20)


def test_after_many_tasks_the_program_holds_no_more_objects(make):
    executor = make(2)

    def count():
        gc.collect()
        found: dict[str, int] = {}
        for one in gc.get_objects():
            found[type(one).__name__] = found.get(type(one).__name__, 0) + 1
        return found

    for _ in executor.map(jobs.negate, range(100), chunksize=1):
        continue
    for future in [executor.submit(jobs.negate, 1) for _ in range(300)]:
        future.result(10)
    future = None
    before = count()
    for _ in executor.map(jobs.negate, range(3000), chunksize=1):
        continue
    for future in [executor.submit(jobs.negate, 1) for _ in range(5000)]:
        future.result(10)
    future = None
    after = count()
    more = {name: after[name] - before.get(name, 0) for name in after if after[name] > before.get(name, 0) + 20}
    assert more == {}


def test_a_fault_of_the_executors_own_is_told_to_all_futures(make, gate, caplog):
    executor = make(1)
    first = executor.submit(jobs.wait_for, gate.path)
    wait_until(first.running)
    second = executor.submit(pow, 2, 3)

    def fail():
        raise ZeroDivisionError("a bug")

    executor._core.post(fail)
    for future in (first, second):
        with pytest.raises(warmfork.ExecutorBroken, match="a bug"):
            future.result(10)
    with pytest.raises(warmfork.ExecutorBroken):
        executor.submit(pow, 2, 3)


def test_threads_are_only_the_one(make):
    before = threading.active_count()
    executor = make(2)
    executor.submit(pow, 2, 3).result(10)
    assert threading.active_count() == before + 1


def test_a_name_of_any_length_will_do(make):
    assert make(1, name="漢" * 30_000).submit(pow, 2, 3).result(10) == 8
