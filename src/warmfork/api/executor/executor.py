"""warmfork.Executor: a concurrent.futures.Executor that a dying task can't break."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Executor as BaseExecutor
from concurrent.futures._base import FINISHED
from functools import partial
from itertools import count
from weakref import finalize

from warmfork._machine import platform
from warmfork.api.executor import awaiting, closing, mapping, seeing, tasks
from warmfork.api.executor.births import Births
from warmfork.api.executor.dispatcher import Core
from warmfork.api.executor.errors import WorkerDied
from warmfork.api.executor.futures import ERROR, TaskFuture
from warmfork.api.executor.room import Room
from warmfork.api.executor.tasks import Options
from warmfork.api.template import Template

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType
    from typing import Any, ParamSpec, Self, TypeVar, Unpack

    from warmfork.api.executor.tasks import TaskOptions
    from warmfork.api.options import Orphans, Preload

    P = ParamSpec("P")
    T = TypeVar("T")

_serials = count(1)


class Executor(BaseExecutor):
    """Runs calls in processes, forked from a warm template. A call that crashes, hangs or leaks costs itself and no other.

    >>> import warmfork
    >>> with warmfork.Executor(2, preload=["json"]) as executor:
    ...     executor.submit(pow, 2, 10).result()
    1024

    Args:
        max_workers: processes at most. None: as many as there are processors for this program (its cgroup's quota counts).
        preload: modules to import, and functions to call, in the template; as for Template.
        template: a Template to fork the workers of, in place of one of the executor's own.
        tasks_per_worker: a worker is replaced after so many tasks. None: it is used for as long as it lives.
        worker_max_age, worker_max_memory: a worker is replaced that is so many seconds old, or holds so many bytes beyond
            its template: between two tasks, never in one. What holds memory is looked at from its third task on.
        initializer, initargs: called in each worker before its first task.
        timeout: seconds that a task may run. Then its process is ended, with all that it has started.
        queue_timeout: seconds that a task may wait for a worker.
        memory_limit: bytes that the process of a task may hold beyond its template.
        retries: how often a task is started again that came to nothing by `retry_on`: errors of its own, or WorkerDied.
        max_pending, max_pending_bytes: tasks, and bytes of their pickled calls, that are under way at most; submit() waits
            until there is room, and raises Full in a thread that must not wait. A call larger than all of that waits until
            nothing else is under way.
        cancel_running: False: cancel() leaves a task alone that was handed to a worker, as with the standard executors.
        capture_output: what a task writes to stdout and stderr is in `future.output`, and in WorkerDied.
        forward_logs: what workers log goes to the loggers of this program, and to no handler that workers have themselves.
        name: what ps shows.
        orphans: "kill" or "keep": what becomes of workers when this process dies.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        preload: Preload = (),
        template: Template | None = None,
        tasks_per_worker: int | None = None,
        worker_max_age: float | None = None,
        worker_max_memory: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        timeout: float | None = None,
        queue_timeout: float | None = None,
        memory_limit: int | None = None,
        retries: int = 0,
        retry_on: Iterable[type[BaseException]] = (WorkerDied,),
        max_pending: int | None = None,
        max_pending_bytes: int | None = None,
        cancel_running: bool = True,
        capture_output: bool = False,
        forward_logs: bool = False,
        name: str | None = None,
        orphans: Orphans | None = None,
    ) -> None:
        platform.check()
        if max_workers is not None and (isinstance(max_workers, bool) or not isinstance(max_workers, int)):
            raise TypeError(f"max_workers is a number, not {max_workers!r}")
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        tasks.check_whole("tasks_per_worker", tasks_per_worker)
        tasks.check_number("worker_max_age", worker_max_age)
        tasks.check_whole("worker_max_memory", worker_max_memory)
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        tasks.check_whole("max_pending", max_pending)
        tasks.check_whole("max_pending_bytes", max_pending_bytes)
        self._name = name or f"executor-{next(_serials)}"
        self._options = Options(timeout, queue_timeout, memory_limit, retries, retry_on)
        self._owned = template is None
        self._template = template or Template(preload, name=self._name, orphans=orphans)
        self._settings = (
            max_workers or seeing.count_processors(), cancel_running,
            (tasks_per_worker, worker_max_age, worker_max_memory), (max_pending, max_pending_bytes),
            (capture_output, forward_logs), tasks.pickle_initializer(initializer, initargs),
        )  # fmt: skip
        self._core = self._begin()

    def _begin(self) -> Core:
        """Make what does the work, and start its thread."""
        workers, cancel_running, worn, pending, kept, initializer = self._settings
        core = Core(workers, cancel_running, worn)
        core.births = Births(core, self._template, self._name, initializer, *kept)
        core.template = self._template if self._owned else None
        if pending != (None, None):
            core.room = Room(*pending)
        core.runner = threading.Thread(target=core.run, name=f"warmfork {self._name}")
        core.runner.start()
        closing.cores.add(core)
        # The thread knows the core, and not this object: with its last reference the executor ends, its work done.
        self._finalizer = finalize(self, drop, core)
        self._finalizer.atexit = False
        return core

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait for all that was submitted; after ^C, for nothing: it is ended."""
        if kind is not None and not issubclass(kind, Exception):
            self._end(True, "tell", True)
        else:
            self.shutdown(wait=True)

    def __repr__(self) -> str:
        return f"<Executor {self._name} max_workers={self._settings[0]}>"

    def __reduce__(self) -> Any:
        raise TypeError(
            "an Executor can't be pickled: make another where the task runs, Executor(...); it has workers of its own"
        )

    # -- tasks

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> TaskFuture[T]:
        """Have `fn(*args, **kwargs)` called in a worker. The call is pickled now; an error of that is the future's.

        Raises RuntimeError after shutdown(), and where the executor is broken the reason.
        """
        return self._submit(self._options, (fn, args, kwargs), fn)

    def _submit(
        self, options: Options, call: tuple[Any, ...], fn: object, kind: type[TaskFuture] = TaskFuture
    ) -> TaskFuture:
        task, size = self._make(options, call, fn, kind)
        if size >= 0:
            self._take_on(task, size)
        return task

    def _make(
        self, options: Options, call: tuple[Any, ...], fn: object, kind: type[TaskFuture] = TaskFuture
    ) -> tuple[TaskFuture, int]:
        """Make a task, and give the bytes of its call; -1: that can't be pickled, and the task has ended."""
        task = kind(self._check(), options)
        task._name = options.name or getattr(fn, "__name__", "task")
        try:
            return task, tasks.fill(task, call)
        except Exception as error:
            task._publish(FINISHED, ERROR, error, None, 0.0)
            return task, -1

    def _take_on(self, task: TaskFuture, size: int) -> None:
        """Take a task on as soon as there is room. Raises what submit() does; after Full it may be tried again."""
        core, options = task._core, task._options
        room = core.room
        if room is not None:
            room.enter(core, size)
            try:
                self._check()  # it may have been shut down, or broken, while we waited
            except BaseException:
                room.leave(size)
                raise
            task._size = size
        limited = options.timed or options.queue_timeout is not None
        if limited:
            core.timing.note(task)
        core.submit(task)
        if limited:
            core.wake()  # it may be running, and nobody has looked at the time

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Give the results of `fn` for the items of iterables, in order, as map() does.

        Items go to workers in slices: `chunksize` of them, or as many as there are for a few slices each. All are submitted
        at once; with `buffersize` so many slices, and another for each whose results were taken. `timeout` is for all, in
        seconds from now (TimeoutError). A crash costs the items of its slice that ran since 10 ms, and those behind.
        """
        return self._map(self._options, fn, iterables, timeout, chunksize, buffersize)

    def _map(
        self,
        options: Options,
        fn: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        timeout: float | None,
        chunksize: int | None,
        buffersize: int | None,
    ) -> Iterator[Any]:
        mapping.check(chunksize, buffersize)
        slices = mapping.Slices(self, options, fn, iterables, chunksize, buffersize is not None)
        return mapping.run_map(slices, timeout, buffersize)

    def map_unordered(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """As map(), but results come as they are there, and items are taken as results are: `buffersize` slices are under
        way, by default two for each worker."""
        mapping.check(chunksize, buffersize)
        slices = mapping.Slices(self, self._options, fn, iterables, chunksize, True)
        return mapping.run_unordered(slices, timeout, buffersize or 2 * self._core.workers)

    async def asubmit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Await `fn(*args, **kwargs)` in a worker. Whoever is cancelled has the task ended first, and its process."""
        return await awaiting.run(self, self._options, fn, args, kwargs)  # type: ignore[no-any-return]

    def stats(self) -> dict[str, Any]:
        """Give what the executor is doing: workers, queued, running (pid, name, age), and how many tasks are done, failed,
        died, retried, late, cancelled, timed out. "latency": how many took so many seconds at most, from submit() to their
        result or error, and more than the number before (powers of two). "memory": the bytes that each worker holds beyond
        its template, by pid."""
        return seeing.take(self._core)

    def warm(self, workers: int | None = None, timeout: float | None = None) -> None:
        """Start so many workers now (None: all), and wait until they are ready. Raises TimeoutError, and why there can be
        none."""
        core = self._check()
        ready = threading.Event()
        core.post(partial(core.births.warm, min(workers or core.workers, core.workers), ready))
        if not ready.wait(timeout):
            raise TimeoutError(f"not so many workers are ready after {timeout} s")
        if core.broken is not None:
            raise closing.copy_error(core.broken)

    def _check(self) -> Core:
        """Give the core. Raises RuntimeError where it takes nothing on. A fork of the program gets one of its own."""
        core = self._core
        if core.pid != os.getpid():
            core = self._core = self._begin()
        if core.broken is not None:
            raise closing.copy_error(core.broken)
        if core.closing:
            raise RuntimeError("cannot schedule new futures after shutdown")
        return core

    def with_options(self, **changes: Unpack[TaskOptions]) -> Submitter:
        """Give what submits to this executor with other options: timeout, queue_timeout, memory_limit, retries, retry_on,
        name."""
        return Submitter(self, self._options.change(**changes))

    # -- its end

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take nothing more on, and end the workers when all is done. `cancel_futures`: what has not begun is cancelled."""
        self._end(wait, "", cancel_futures)

    def terminate_workers(self) -> None:
        """End it now: what waits is cancelled, what runs gets SIGTERM, and after a second SIGKILL."""
        self._end(True, "tell", True)

    def kill_workers(self) -> None:
        """End it now: what waits is cancelled, what runs is killed."""
        self._end(True, "kill", True)

    def _end(self, wait: bool, how: str, cancel: bool) -> None:
        core = self._core
        if core.pid != os.getpid():
            return
        core.closing = True
        core.post(partial(closing.begin, core, cancel, how))
        if wait:
            core.runner.join()
            if core.births.forwards:
                from warmfork.api.executor import logs

                logs.wait_for_all(core.births)
            self._finalizer()

    def restart(self) -> None:
        """End all workers, and go on with new ones. What runs comes to nothing (WorkerDied), what waits is done by the new
        ones. An executor that was broken by its initializer takes tasks again."""
        core = self._core
        if core.closing or core.over:
            raise RuntimeError("this executor was shut down")
        done = threading.Event()
        core.post(partial(closing.restart, core, done.set))
        done.wait()


class Submitter:
    """An executor with other options. Made by Executor.with_options()."""

    def __init__(self, executor: Executor, options: Any) -> None:
        self._executor = executor
        self._options: Options = options

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> TaskFuture[T]:
        """As Executor.submit()."""
        return self._executor._submit(self._options, (fn, args, kwargs), fn)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """As Executor.map(). Limits hold for each turn of a slice."""
        return self._executor._map(self._options, fn, iterables, timeout, chunksize, buffersize)

    async def asubmit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """As Executor.asubmit()."""
        return await awaiting.run(self._executor, self._options, fn, args, kwargs)  # type: ignore[no-any-return]


def drop(core: Core) -> None:
    """Nobody has the executor any longer: what was submitted is done, then all ends."""
    core.closing = True
    core.post(partial(closing.begin, core))
