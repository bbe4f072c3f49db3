"""joblib: a backend whose workers are forks of a warm template, for `Parallel` and for what uses it, as scikit-learn does.

A batch of calls is a task of an executor, which is kept for the next `Parallel` with the same settings. joblib's bookkeeping
is done in a thread of each `Parallel`, for it runs the user's generator, and the executor's thread must not wait for that.
"""

from __future__ import annotations

import os
from queue import SimpleQueue
from threading import Thread

from joblib import cpu_count, register_parallel_backend
from joblib._memmapping_reducer import _get_backing_memmap, _reduce_memmap_backed
from joblib._parallel_backends import AutoBatchingMixin, FallbackToBackend, ParallelBackendBase, SequentialBackend

from warmfork.api.executor.executor import Executor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from typing import Any

PRELOAD = ("joblib", "warmfork.integrations.joblib")
"""What a batch takes to be unpickled."""

NOT_OURS = ("context", "max_nbytes", "mmap_mode", "temp_folder", "verbose", "prefer", "require")
"""What Parallel gives each backend, and is of no use here: there are no temporary files."""


def register(*, make_default: bool = False) -> None:
    """Make `parallel_config(backend="warmfork")` known to joblib; with `make_default`, what `Parallel` uses if nobody says
    which."""
    register_parallel_backend("warmfork", WarmforkBackend, make_default=make_default)


class WarmforkBackend(AutoBatchingMixin, ParallelBackendBase):
    """What joblib asks to run batches. Options beside `n_jobs` and `inner_max_num_threads` are warmfork.Executor's: preload,
    retries, memory_limit, tasks_per_worker and others."""

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True
    supports_return_generator = True

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Give how many workers there are for this `n_jobs`; -1 is one for each processor."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        return max(cpu_count() + 1 + n_jobs, 1) if n_jobs < 0 else n_jobs

    def configure(self, n_jobs: int = 1, parallel: Any = None, **options: Any) -> int:
        """Have an executor for this `Parallel`. Raises what Executor raises."""
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        options = {name: value for name, value in options.items() if name not in NOT_OURS}
        self.parallel = parallel
        self.executor = get_executor(n_jobs, self._prepare_worker_env(n_jobs), {**self.backend_kwargs, **options})
        self.futures: set[Future[Any]] = set()
        self.ended: SimpleQueue[Any] = SimpleQueue()
        self.teller = Thread(target=tell, args=(self.ended,), name="warmfork joblib", daemon=True)
        self.teller.start()
        return n_jobs

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], object] | None = None) -> Future[Any]:
        """Have a batch run."""
        future = self.executor.with_options(name=get_name(func)).submit(call, Carried(func))
        futures, ended = self.futures, self.ended
        futures.add(future)

        def note(future: Future[Any]) -> None:
            futures.discard(future)
            if callback is not None:
                ended.put((callback, future))

        future.add_done_callback(note)
        return future

    def retrieve_result_callback(self, future: Future[Any]) -> Any:
        """Give what a batch returned, or raise what it raised."""
        return future.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """End what this `Parallel` has under way, and nothing else of the executor."""
        for future in list(self.futures):
            future.cancel()

    def terminate(self) -> None:
        """This `Parallel` is over. The workers stay for the next."""
        if self.__dict__.pop("executor", None) is not None:
            self.ended.put(None)
        self.reset_batch_stats()


def tell(ended: SimpleQueue[Any]) -> None:
    """Tell joblib of each batch that has ended."""
    while (entry := ended.get()) is not None:
        callback, future = entry
        try:
            callback(future)
        except Exception:
            log().exception("joblib could not take what %s gave", future.name)


def get_name(batch: Any) -> str:
    """Give what a batch is called: the name of its first function."""
    items = getattr(batch, "items", ())
    return getattr(items[0][0], "__name__", "") if items else ""


def log() -> Any:
    """Give the backend's logger."""
    from logging import getLogger

    return getLogger("warmfork.executor")


# -- the executor


_kept: list[tuple[Any, Executor]] = []
"""The executor of the last `Parallel`, and what it was made for."""


def get_executor(n_jobs: int, variables: dict[str, str], options: dict[str, Any]) -> Executor:
    """Give the executor of the last `Parallel`, where that had the same settings, and else another: the last one ends when
    nobody has it any longer."""
    preload = options.pop("preload", ())
    preload = [*PRELOAD, *([preload] if isinstance(preload, str) else preload)]
    wanted = (os.getpid(), n_jobs, preload, variables, options)
    for made_for, executor in _kept:
        if made_for == wanted:
            return executor
    options = {"name": "joblib", "initializer": prepare, "initargs": (variables,), **options}
    executor = Executor(n_jobs, preload=preload, **options)
    _kept[:] = [(wanted, executor)]
    return executor


# -- in the worker


def prepare(variables: dict[str, str]) -> None:
    """Let libraries have no more threads than the worker has processors: those that come, by the environment; those that the
    template has loaded, by threadpoolctl, where that is installed."""
    os.environ.update(variables)
    register()
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return
    threadpool_limits(int(variables["OMP_NUM_THREADS"]))


def call(batch: Any) -> Any:
    """Run a batch."""
    return Carried(batch())


# -- how a batch travels, and what it gives


class Carried:
    """A value, pickled as joblib does it: what has no name where it arrives by value, and a memory-mapped array by its file,
    so that what a worker writes into it is there. It arrives as the value itself."""

    def __init__(self, value: object) -> None:
        self.value = value
        self.reduced: tuple[bytes, list[Any]] | None = None  # whoever pickles it may begin a second time

    def __reduce__(self) -> Any:
        if self.reduced is None:
            buffers: list[Any] = []
            self.reduced = dump(self.value, buffers), buffers
        return load, self.reduced


def load(data: bytes, buffers: list[Any]) -> Any:
    """Give the value."""
    from pickle import loads

    return loads(data, buffers=buffers)


def dump(value: object, buffers: list[Any]) -> bytes:
    """Pickle a value, its large buffers aside."""
    import io
    import sys

    from cloudpickle import CloudPickler

    class Pickler(CloudPickler):
        def reducer_override(self, value: Any) -> Any:
            numpy = sys.modules.get("numpy")
            if numpy is not None and isinstance(value, numpy.ndarray):
                memmap = _get_backing_memmap(value)
                if isinstance(memmap, numpy.memmap):
                    return _reduce_memmap_backed(value, memmap)
            return super().reducer_override(value)

    file = io.BytesIO()
    Pickler(file, protocol=5, buffer_callback=buffers.append).dump(value)
    return file.getvalue()
