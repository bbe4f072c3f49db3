"""The suites: which of CPython's test modules run, which of their tests, and what must be counted there."""

from __future__ import annotations

from dataclasses import dataclass, replace

_PACKAGE = "test.test_multiprocessing_forkserver.test_"
_MAIN = "test.test_multiprocessing_main_handling"
_FUTURES = "test.test_concurrent_futures.test_"


@dataclass(frozen=True)
class Suite:
    """One test module in one interpreter."""

    name: str
    module: str
    # Our own module around test._test_multiprocessing, for interpreters that come without `module`.
    driver: str = ""
    # As `python -m unittest -k`; empty means all.
    patterns: tuple[str, ...] = ()
    since: tuple[int, int] = (3, 11)
    # False where forkserver starts nothing: there a start by warmfork is an error.
    starts: bool = True
    # True where warmfork.Executor stands for ProcessPoolExecutor (inside/conformance_executor.py).
    executor: bool = False

    @property
    def group(self) -> str:
        """The name's part before the dot: what the README's table shows as one line."""
        return self.name.partition(".")[0]


# FailingInitializerResourcesTest.test_forkserver has no "Forkserver" in its class's name.
_FORKSERVER = ("Forkserver", "test_forkserver")
_PARTS = ("as_completed", "deadlock", "init", "process_pool", "shutdown", "wait")

SUITES = (
    Suite("processes", _PACKAGE + "processes", driver="drive_processes"),
    Suite("threads", _PACKAGE + "threads", driver="drive_threads"),
    Suite("manager", _PACKAGE + "manager", driver="drive_manager"),
    Suite("misc", _PACKAGE + "misc", driver="drive_misc"),
    Suite("preload", _PACKAGE + "preload", since=(3, 15)),
    Suite("main", _MAIN, patterns=("ForkServerCmdLineTest",)),
    Suite("main-others", _MAIN, patterns=("SpawnCmdLineTest", "ForkCmdLineTest"), starts=False),
    *(Suite(f"futures.{part}", _FUTURES + part, patterns=_FORKSERVER, since=(3, 13)) for part in _PARTS),
    *(
        Suite(f"executor.{part}", _FUTURES + part, patterns=_FORKSERVER, since=(3, 13), executor=True)
        for part in _PARTS
    ),
)


def choose_suites(version: tuple[int, int], names: list[str], quick: bool) -> list[Suite]:
    """Give the suites for that Python version; `names` are suites or groups, all if empty."""
    suites = [suite for suite in SUITES if version >= suite.since]
    if names:
        return [suite for suite in suites if suite.name in names or suite.group in names]
    if not quick:
        return suites
    chosen = {suite.name: suite for suite in suites if suite.name in QUICK}
    return [replace(chosen[name], patterns=QUICK[name]) for name in QUICK if name in chosen]


# The classes of test_processes that are about starting and ending, without those that mostly wait.
_QUICK_PROCESSES = (
    "WithProcessesTestProcess.",
    "WithProcessesTestPool",  # and PoolWorkerErrors, PoolWorkerLifetime
    "WithProcessesTestSubclassingProcess",
    "WithProcessesTestSpawnedSysPath",
    "WithProcessesTestAtExit",
    "WithProcessesTestManagerRestart",
    "WithProcessesTestQueue",
    "WithProcessesTestLock",
    "WithProcessesTestSemaphore",
    "WithProcessesTestEvent",
    "WithProcessesTestConnection",
    "WithProcessesTestPicklingConnections",
    "WithProcessesTestValue",
    "WithProcessesTestSharedMemory",
    "WithProcessesTestLogging",
)
QUICK: dict[str, tuple[str, ...]] = {
    "misc": (),
    "processes": _QUICK_PROCESSES,
    "main": ("ForkServerCmdLineTest",),
}
