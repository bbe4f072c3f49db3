"""The tests of CPython that warmfork does not pass, each with the reason: all of them, and nothing else.

A listed test that passes is an error as well, and so is one that does not exist: the list stays true.
Beside it, the one kind of thing that CPython's tests leave behind whatever the engine.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

_PROCESSES = "test.test_multiprocessing_forkserver.test_processes.WithProcessesTestProcess."


@dataclass(frozen=True)
class Exclusion:
    """One test that warmfork does not pass."""

    test: str
    versions: Collection[str]
    reason: str
    # Of the suites in which warmfork.Executor stands for ProcessPoolExecutor.
    executor: bool = False
    # It would wait for ever, or for minutes: it is not run.
    waits: bool = False


EXCLUSIONS = (
    Exclusion(
        _PROCESSES + "test_forkserver_auth_is_enabled",
        ("3.14", "3.15"),
        "logs in to the server's listening socket with the private ForkServer._forkserver_authkey; "
        "warmfork has no listening socket that anyone could log in to",
    ),
    Exclusion(
        _PROCESSES + "test_forkserver_without_auth_fails",
        ("3.14", "3.15"),
        "replaces the private ForkServer._forkserver_authkey and wants the next start to fail; "
        "warmfork has no such key: its channel is inherited, not found by address",
    ),
)


_FUTURES = "test.test_concurrent_futures.test_"
_POOL = _FUTURES + "process_pool.ProcessPoolForkserverProcessPoolExecutorTest."
_DEADLOCK = _FUTURES + "deadlock.ProcessPoolForkserverExecutorDeadlockTest."
_SHUTDOWN = _FUTURES + "shutdown.ProcessPoolForkserverProcessPoolShutdownTest."
_INIT = _FUTURES + "init.ProcessPoolForkserverFailingInitializerTest."
_NEW, _EACH = ("3.14", "3.15"), ("3.13", "3.14", "3.15")

_GOES_ON = "wants the pool to be broken by one process that ends; ours fails one future, and goes on"
_ITSELF = "wants BrokenProcessPool where arguments can't be unpickled; ours gives the error that says why"
_RESULT = "wants the error of pickling itself; ours is ResultError, which has it in its text"
_STARTS_NONE = "counts processes after calls that can't be pickled; ours starts none for them"
_FINISHES = "wants futures to fail that were submitted before the executor was dropped; ours does what was submitted"
_PRIVATE = "looks at, or replaces, what ProcessPoolExecutor is made of"


def _list(versions: Collection[str], reason: str, *tests: str, waits: bool = False) -> tuple[Exclusion, ...]:
    return tuple(Exclusion(test, versions, reason, True, waits) for test in tests)


EXECUTOR = (
    *_list(_EACH, _GOES_ON, _POOL + "test_killed_child"),
    *_list(_NEW, _GOES_ON, _POOL + "test_broken_process_pool_traceback", waits=True),
    *_list(_EACH, _ITSELF, _DEADLOCK + "test_error_at_task_unpickle", _DEADLOCK + "test_exit_at_task_unpickle"),
    *_list(
        _EACH,
        _RESULT,
        _DEADLOCK + "test_error_during_result_pickle_on_worker",
        _DEADLOCK + "test_exit_during_result_pickle_on_worker",
    ),
    *_list(_EACH, _STARTS_NONE, _POOL + "test_saturation", _SHUTDOWN + "test_processes_terminate"),
    *_list(
        _NEW,
        _FINISHES,
        _POOL + "test_gc_during_max_tasks_worker_exit_gh152967",
        _POOL + "test_shutdown_no_wait_max_tasks_gh119592",
    ),
    *_list(
        _EACH,
        "gives a multiprocessing.Queue to the initializer, which ours pickles, as it does arguments",
        _INIT + "test_initializer",
    ),
    *_list(
        ("3.13",),
        "runs the test before, and looks at what that has left",
        _FUTURES + "init.FailingInitializerResourcesTest.test_forkserver",
    ),
    *_list(
        _EACH,
        "wants the default start method to change with max_tasks_per_child; ours has no start methods",
        _POOL + "test_max_tasks_per_child_defaults_to_spawn_context",
    ),
    *_list(
        _EACH,
        "forbids a second thread, and wants the pool to break of that; ours does without",
        _POOL + "test_python_finalization_error",
    ),
    *_list(_EACH, _PRIVATE + ": the class of the traceback", _POOL + "test_traceback"),
    *_list(("3.15",), _PRIVATE + ": the same class", _POOL + "test_traceback_when_child_process_terminates_abruptly"),
    *_list(
        _NEW,
        _PRIVATE,
        _POOL + "test_terminate_workers",
        _POOL + "test_kill_workers",
        _POOL + "test_force_shutdown_workers_invalid_op",
        _POOL + "test_force_shutdown_workers",
    ),
    *_list(
        _NEW,
        _PRIVATE,
        _POOL + "test_failed_worker_replacement_breaks_pool",
        _POOL + "test_force_shutdown_during_max_tasks_worker_exit",
        waits=True,
    ),
)

ALL = (*EXCLUSIONS, *EXECUTOR)


def list_omitted(version: str, module: str) -> list[str]:
    """Give the tests of a module that are not run with warmfork.Executor: they would wait for what does not come."""
    return [
        entry.test for entry in EXECUTOR if entry.waits and version in entry.versions and entry.test.startswith(module)
    ]


def list_exclusions(version: str, engine: str, executor: bool = False) -> dict[str, str]:
    """Give the excluded tests of that Python version and why; the stdlib's engine has to pass them all."""
    if engine == "stdlib":
        return {}
    return {entry.test: entry.reason for entry in ALL if version in entry.versions and entry.executor == executor}


# test_many_processes terminates 100 children as soon as they are started. Up to 3.13 they are importing the test
# module then, which makes a Lock, and one that dies between sem_open and the registration leaves a semaphore that
# nobody else can know of; between two steps of sem_open, one that has the C library's temporary name. Seen on 3.13
# in 12 runs of that test: 8 semaphores in 5 runs with warmfork, 7 in 6 with the stdlib; never more than 3 in one.
_UNREGISTERED = re.compile(r"/dev/shm/sem\.(mp-\w{8}|\w{6})")
_MOST_UNREGISTERED = 5


def drop_usual_leftovers(suite: str, version: str, left: list[str]) -> list[str]:
    """Give what is left behind and is not explained by CPython's tests themselves."""
    if suite != "processes" or version not in ("3.11", "3.12", "3.13"):
        return left
    unusual = [item for item in left if not _UNREGISTERED.fullmatch(item)]
    return unusual if len(left) - len(unusual) <= _MOST_UNREGISTERED else left
