"""What an executor's futures raise beside what their calls do."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor

from warmfork._words.errors import WarmforkError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class WorkerDied(WarmforkError):
    """The process that ran this task ended in the middle of it: a crash, a kill, os._exit(). No other task is concerned.

    `task` is its name, `outcome` how the process ended (Exited, Signaled or Lost), `stack` the Python stack where a fault
    struck, `output` the end of what the task wrote (with capture_output=True), `pid` the process.
    """

    def __init__(self, task: str, outcome: Any, stack: str = "", output: str = "", pid: int = 0) -> None:
        super().__init__(task, outcome, stack, output, pid)
        self.task, self.outcome, self.stack, self.output, self.pid = task, outcome, stack, output, pid

    def __str__(self) -> str:
        text = f"the process that ran {self.task} (pid {self.pid}) ended in the middle of it: {self.outcome}"
        if self.stack:
            text += f"\n\nIn the worker:\n{self.stack.rstrip()}"
        if self.output:
            text += f"\n\nIts last output:\n{self.output.rstrip()}"
        return text


class TaskTimeout(WarmforkError, TimeoutError):
    """The task ran for longer than its `timeout`, and its process was ended; no other task is concerned.

    `task` is its name, `timeout` the limit in seconds.
    """

    where = "ran"

    def __init__(self, task: str, timeout: float) -> None:
        super().__init__(task, timeout)
        self.task, self.timeout = task, timeout

    def __str__(self) -> str:
        return f"{self.task} {self.where} for longer than {self.timeout} s"


class QueueTimeout(TaskTimeout):
    """The task waited for a worker for longer than its `queue_timeout`, and was never started."""

    where = "waited"


class InitializerError(WarmforkError, BrokenExecutor):
    """The initializer failed in each of so many workers: no task can run. `cause` in one line, `traceback` the worker's."""

    def __init__(self, cause: str, traceback: str, tries: int) -> None:
        super().__init__(cause, traceback, tries)
        self.cause, self.traceback, self.tries = cause, traceback, tries

    def __str__(self) -> str:
        return (
            f"the initializer failed in {self.tries} workers, one after the other: {self.cause}\n\n"
            f"In the worker:\n{self.traceback.rstrip()}\n"
            "hint: Executor.restart() tries again"
        )


class ExecutorBroken(WarmforkError, BrokenExecutor):
    """The executor can't go on, and says why: a fault of its own, or no worker can be had. `traceback` tells more."""

    def __init__(self, why: str, traceback: str = "") -> None:
        super().__init__(why, traceback)
        self.why, self.traceback = why, traceback

    def __str__(self) -> str:
        return f"{self.why}\n\n{self.traceback.rstrip()}" if self.traceback else self.why


class ForkedError(WarmforkError, RuntimeError):
    """This future is the original's, of which this process is a fork: its result comes there, and never here."""

    def __str__(self) -> str:
        return "this process is a fork, and the task is its parent's: its result does not come here; submit it anew"


class Full(WarmforkError):
    """So much is under way as may be, and this thread must not wait: it has an event loop, where `await asubmit()` waits, or
    it runs a callback of the executor's, which brings the results. `limit` is the number, `option` its name."""

    def __init__(self, limit: int, option: str = "max_pending") -> None:
        super().__init__(limit, option)
        self.limit, self.option = limit, option

    def __str__(self) -> str:
        what = "tasks" if self.option == "max_pending" else "bytes of tasks"
        return (
            f"{self.limit:,} {what} are under way ({self.option}), and this thread must not wait: `await "
            "executor.asubmit(...)` waits for room, and so does submit() in a thread without an event loop"
        )


for _class in (WorkerDied, TaskTimeout, QueueTimeout, InitializerError, ExecutorBroken, ForkedError, Full):
    _class.__module__ = "warmfork"
