"""Dask: an executor for each worker, in which a task that crashes, hangs or leaks costs itself and not the worker.

A task is run by `Worker.execute()` of distributed, which hands it to the executor that its annotation names, and looks at
nothing but what comes back. So this is an executor, and what tells Dask of the processes behind it: their memory is the
worker's, and a task that Dask cancels is ended.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import CancelledError, Executor, ThreadPoolExecutor
from functools import partial
from threading import get_ident
from time import time

from dask.utils import parse_bytes
from distributed import Reschedule, WorkerPlugin

from warmfork.api.executor.executor import Executor as Processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future
    from typing import Any

    from warmfork.api.executor.futures import TaskFuture

PRELOAD = ("distributed", "warmfork.integrations.dask")
"""What a task's call takes to be unpickled."""

LEAST_SHARE = 0.1
"""Of its part of the worker's limit, what a task may always have, however much the worker itself holds: Dask stops handing
out tasks by then."""


class WarmforkPlugin(WorkerPlugin):
    """Gives each worker of a cluster an executor of warmfork: `client.register_plugin(WarmforkPlugin())`.

    Tasks go there that are annotated so: `with dask.annotate(executor="warmfork"): ...`.

    Args:
        preload: modules to import, and functions to call, once in each worker's template; as for Template.
        max_workers: processes at most. None: as many as the worker has threads.
        timeout: seconds that a task may run. Then it is ended, with all that it has started.
        memory_limit: what a task may hold: bytes, or a text such as "2 GiB". "auto": its part of what the worker's limit
            leaves. None: no limit.
        tasks_per_worker: 1: each task has a process of its own. None: processes are used again.
        name: what the annotation says. Two plugins with different names give two executors.
    """

    def __init__(
        self,
        preload: Iterable[str] = (),
        *,
        max_workers: int | None = None,
        timeout: float | None = None,
        memory_limit: int | str | None = "auto",
        tasks_per_worker: int | None = 1,
        name: str = "warmfork",
    ) -> None:
        self.name = name
        self.memory_limit = memory_limit if memory_limit in (None, "auto") else parse_bytes(memory_limit)
        self.max_workers = max_workers
        self.timeout = timeout
        self.tasks_per_worker = tasks_per_worker
        self.preload = [*PRELOAD, *([preload] if isinstance(preload, str) else preload)]
        self.executor: TaskExecutor | None = None

    async def setup(self, worker: Any) -> None:
        """Give a worker its executor, with the template ready. Raises what Executor raises, and PreloadError."""
        if worker.executors.get(self.name) is not None:
            raise ValueError(f"the worker has an executor {self.name!r} already: give the plugin another name=")
        slots = self.max_workers or worker.state.nthreads
        processes = Processes(
            slots,
            preload=self.preload,
            tasks_per_worker=self.tasks_per_worker,
            timeout=self.timeout,
            name=f"dask-{self.name}",
        )
        try:
            await asyncio.to_thread(processes.warm, 1)
        except BaseException:
            await asyncio.to_thread(processes.kill_workers)
            raise
        self.executor = TaskExecutor(processes, slots, partial(self.get_limit, worker, slots))
        worker.executors[self.name] = self.executor
        add_memory(worker.monitor, self.executor)
        worker.metrics[self.name] = self.get_metrics

    async def teardown(self, worker: Any) -> None:
        """End what runs, and all processes. Tasks that are ended by this are scheduled anew."""
        executor, self.executor = self.executor, None
        if executor is None:
            return
        if worker.executors.get(self.name) is executor:
            del worker.executors[self.name]
            worker.metrics.pop(self.name, None)
        await asyncio.to_thread(executor.end)

    def transition(self, key: Any, start: str, finish: str, **_: Any) -> None:
        """A task was cancelled, or its future dropped: Dask would let it run to its end, and keep its place."""
        if (start, finish) == ("executing", "released") and self.executor is not None:
            self.executor.cancel(key)

    def get_limit(self, worker: Any, slots: int) -> int | None:
        """Give what a task that begins now may hold, in bytes. None: there is no limit."""
        limit = self.memory_limit
        if limit == "auto":
            most = worker.memory_manager.memory_limit
            if not most:
                return None
            left = most - worker.monitor.proc.memory_info().rss
            return int(max(left, LEAST_SHARE * most) / slots)
        return limit  # type: ignore[return-value]

    def get_metrics(self, _worker: Any) -> dict[str, Any]:
        """Give what the scheduler shows of it, as `metrics["warmfork"]` of each worker."""
        return self.executor.get_metrics() if self.executor is not None else {}


class TaskExecutor(Executor):
    """What Dask hands tasks to. A thread waits for each, so that the worker's event loop neither pickles nor unpickles."""

    def __init__(self, processes: Processes, slots: int, get_limit: Callable[[], int | None]) -> None:
        self.processes = processes
        self.get_limit = get_limit
        self.threads = ThreadPoolExecutor(slots, thread_name_prefix="warmfork")
        self.running: dict[Any, Running] = {}

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have it called in a process. Its first argument is Dask's task, which has a key."""
        running = Running()
        key = getattr(args[0], "key", None) if args else None
        self.running[key] = running
        return self.threads.submit(self.run, running, key, fn, args, kwargs)

    def run(self, running: Running, key: Any, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run a task, and wait for it. Raises what Executor's futures raise."""
        try:
            submitter = self.processes.with_options(memory_limit=self.get_limit(), name=str(key))
            running.begin(submitter.submit(call, fn, args, kwargs))
            return running.future.result()
        except CancelledError:
            return make_reschedule()
        finally:
            if self.running.get(key) is running:
                del self.running[key]

    def cancel(self, key: Any) -> None:
        """Nobody wants this task any longer: its process is ended."""
        running = self.running.get(key)
        if running is not None:
            running.cancel()

    def get_memory(self) -> int:
        """Give the bytes that the processes hold."""
        return sum(self.processes.stats()["memory"].values())

    def get_metrics(self) -> dict[str, Any]:
        """Give numbers for the scheduler."""
        stats = self.processes.stats()
        memory = sum(stats["memory"].values())
        return {**stats, "memory": memory, "running": [{**one, "name": str(one["name"])} for one in stats["running"]]}

    def end(self) -> None:
        """End all, whatever runs."""
        for running in list(self.running.values()):
            running.cancel()
        self.processes.kill_workers()
        self.threads.shutdown()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take nothing more on, and end when all is done. The threads first: what they have queued goes to the processes."""
        self.threads.shutdown(wait, cancel_futures=cancel_futures)
        self.processes.shutdown(wait, cancel_futures=cancel_futures)


class Running:
    """A task on its way. It may be cancelled before it is submitted: whichever comes second sees the other."""

    def __init__(self) -> None:
        self.cancelled = False
        self.future: TaskFuture

    def begin(self, future: TaskFuture) -> None:
        """It is submitted."""
        self.future = future
        if self.cancelled:
            future.cancel()

    def cancel(self) -> None:
        """End it."""
        self.cancelled = True
        if hasattr(self, "future"):
            self.future.cancel()


def call(fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Run Dask's function in a child.

    Its answer has the exception twice: as bytes, which become text where they can't be pickled, and as it is, which is asked
    for one thing only, and would make the whole answer one that can't be pickled.
    """
    answer = fn(*args, **kwargs)
    if isinstance(answer, dict) and "actual_exception" in answer:
        error = answer["actual_exception"]
        answer["actual_exception"] = Reschedule() if isinstance(error, Reschedule) else Exception(repr(error))
    return answer


def make_reschedule() -> dict[str, Any]:
    """Make what a task gives Dask that is to be done elsewhere, or not at all if nobody wants it."""
    now = time()
    return {
        "op": "task-erred", "actual_exception": Reschedule(), "thread": get_ident(), "start": now, "stop": now,
    }  # fmt: skip


def add_memory(monitor: Any, executor: TaskExecutor) -> None:
    """Have a worker's memory be its own and that of its tasks: by it Dask spills, pauses, and tells the scheduler."""
    before = monitor.get_process_memory
    monitor.get_process_memory = lambda: int(before() + executor.get_memory())
