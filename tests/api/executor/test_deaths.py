"""A worker that dies costs the task that it ran, and no other."""

from __future__ import annotations

import os
import pickle
import signal
from pathlib import Path

import pytest

import warmfork
from tests.api.executor import jobs
from tests.attacks.attackers import become_nobody
from tests.support import run_forked, wait_until
from warmfork._tasks import work
from warmfork.api.executor.killing import Killing


def read_lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_crash_says_of_what_it_died_and_where(executor):
    future = executor.submit(jobs.crash)
    with pytest.raises(warmfork.WorkerDied, match="SIGSEGV") as caught:
        future.result(10)
    error = caught.value
    assert (error.task, error.outcome, error.pid) == (
        "crash",
        warmfork.Signaled(11, error.outcome.core_dumped),
        future.pid,
    )
    assert "in crash" in error.stack and "in crash" in str(error)
    assert (future.started, future.attempts) == (True, 1)
    again = pickle.loads(pickle.dumps(error))
    assert (again.task, again.stack, again.pid) == (error.task, error.stack, error.pid)


def test_a_task_that_leaves_says_with_which_code(executor):
    with pytest.raises(warmfork.WorkerDied) as caught:
        executor.submit(jobs.leave, 3).result(10)
    assert caught.value.outcome == warmfork.Exited(3)


def test_the_last_output_of_a_task_that_died_is_told(make):
    executor = make(1, capture_output=True)
    executor.submit(jobs.say, "before").result(10)
    with pytest.raises(warmfork.WorkerDied, match="so far") as caught:
        executor.submit(jobs.write_and_leave, "so far").result(10)
    assert caught.value.output == "so far\n"


def test_what_waited_behind_a_task_that_died_is_done_and_done_once(make, tmp_path):
    """One worker has them all in hand when the first of them ends it."""
    executor = make(1)
    path = tmp_path / "log"
    dead = [executor.submit(jobs.leave, 1) for _ in range(3)]
    futures = []
    for number in range(300):
        futures.append(executor.submit(jobs.note, str(path), str(number)))
        if number % 50 == 10:
            dead.append(executor.submit(jobs.leave, 2))
    assert [future.result(30) for future in futures] == [str(number) for number in range(300)]
    for future in dead:
        with pytest.raises(warmfork.WorkerDied):
            future.result(10)
    assert sorted(map(int, read_lines(path))) == list(range(300))
    assert all(future.attempts == 1 for future in futures)
    assert executor.stats()["died"] == len(dead)


def test_a_worker_killed_from_outside_while_it_has_nothing_to_do_costs_nothing(executor):
    pid = executor.submit(jobs.get_pid).result(10)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: executor.stats()["workers"] == 0)
    assert executor.submit(jobs.get_pid).result(10) != pid


def test_a_task_that_kills_whoever_unpickles_it_costs_one_worker(executor):
    with pytest.raises(warmfork.WorkerDied) as caught:
        executor.submit(jobs.pass_on, jobs.Deadly()).result(10)
    assert caught.value.outcome == warmfork.Exited(66)
    assert executor.submit(pow, 2, 3).result(10) == 8
    assert executor.stats()["died"] == 1


def test_what_was_started_runs_again_only_where_it_is_asked_for(executor, tmp_path):
    path = tmp_path / "once"
    future = executor.with_options(retries=1).submit(jobs.die_once, str(path))
    assert (future.result(10), future.attempts) == ("second", 2)
    path.unlink()
    with pytest.raises(warmfork.WorkerDied):
        executor.submit(jobs.die_once, str(path)).result(10)
    assert executor.stats()["retried"] == 1


def test_retries_end(executor):
    future = executor.with_options(retries=2).submit(jobs.leave, 1)
    with pytest.raises(warmfork.WorkerDied):
        future.result(20)
    assert future.attempts == 3


def test_a_task_that_raises_runs_again_only_for_a_class_that_was_named(executor, tmp_path):
    path = tmp_path / "once"
    again = executor.with_options(retries=1, retry_on=(LookupError,))
    future = again.submit(jobs.raise_once, str(path))
    assert (future.result(10), future.attempts) == ("second", 2)
    path.unlink()
    with pytest.raises(LookupError):
        executor.with_options(retries=1).submit(jobs.raise_once, str(path)).result(10)


def test_what_a_task_that_died_has_started_is_ended_too(executor, tmp_path):
    path = tmp_path / "pids"
    with pytest.raises(warmfork.WorkerDied):
        executor.submit(jobs.start_sleeper_and_leave, str(path)).result(10)
    pid = int(read_lines(path)[0])
    wait_until(lambda: not is_alive(pid))


def test_a_template_that_dies_costs_no_task(make, tmp_path):
    with warmfork.Template(preload=["tests.api.executor.jobs"], spares=0) as own:
        with warmfork.Executor(2, template=own) as executor:
            first = executor.submit(jobs.get_pid).result(10)
            os.kill(own.pid, signal.SIGKILL)
            assert executor.submit(jobs.get_pid).result(10) == first
            with pytest.raises(warmfork.WorkerDied):
                executor.submit(jobs.leave, 5).result(20)
            assert executor.submit(jobs.get_pid).result(20) != first
            with pytest.raises(warmfork.WorkerDied, match="code=6"):
                executor.submit(jobs.leave, 6).result(20)


def test_nonsense_on_the_pipe_costs_its_worker(executor):
    with pytest.raises(warmfork.WorkerDied):
        executor.submit(jobs.write_everywhere).result(10)
    assert executor.submit(pow, 2, 3).result(10) == 8


@pytest.mark.parametrize("kind", [work.RAISED, work.ENDED, work.VALUE | work.SPILLED])
@pytest.mark.parametrize("forks", [None, 1])
def test_well_formed_nonsense_costs_its_worker_too(make, kind, forks):
    executor = make(1, tasks_per_worker=forks)
    with pytest.raises((warmfork.WorkerDied, warmfork.TaskTimeout)):
        executor.with_options(timeout=5).submit(jobs.say_nonsense, kind).result(20)
    assert executor.submit(pow, 2, 3).result(10) == 8


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("first", ["ask", "kill"])
def test_a_worker_that_has_become_another_user_is_written_off_and_no_error(first):
    def end_parent() -> bool:
        become_nobody()
        parent = os.getppid()
        killing = Killing(parent, os.pidfd_open(parent), first)
        return killing.step()

    assert run_forked(end_parent)


FAILS_TO_FORK = """
import errno, os
real, left = os.fork, [{fails}]
def fork():
    if left[0]:
        left[0] -= 1
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return real()
os.fork = fork
"""


@pytest.mark.parametrize("fails", [3, 10**9])
def test_a_fork_that_fails_for_a_moment_costs_nothing_and_else_the_task_says_why(tmp_path, monkeypatch, fails):
    """It cost the worker, and the task was said to have died with it."""
    (tmp_path / "fails_to_fork.py").write_text(FAILS_TO_FORK.format(fails=fails))
    monkeypatch.syspath_prepend(tmp_path)
    with warmfork.Executor(1, preload=["fails_to_fork"], tasks_per_worker=1) as executor:
        executor.warm(1, 20)
        (worker,) = executor._core.slots
        first = executor.submit(pow, 2, 3)
        if fails == 3:
            assert first.result(20) == 8
        else:
            with pytest.raises(BlockingIOError) as caught:
                first.result(20)
            assert "no process could be forked for this task" in caught.value.__notes__[0]
        assert executor._core.slots == [worker] and worker.outcome is None
