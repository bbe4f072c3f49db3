"""map(): many calls of one function, in slices. A slice goes on for 10 ms at a time, so a long one holds nobody up."""

from __future__ import annotations

from collections import deque
from concurrent.futures._base import CANCELLED_AND_NOTIFIED
from itertools import islice
from queue import SimpleQueue
from time import monotonic

from warmfork._machine import spilled
from warmfork.api.executor.futures import LOCK_PATIENCE, SliceFuture, read_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from warmfork.api.executor.executor import Executor
    from warmfork.api.executor.tasks import Options

PARTS = 8
"""Slices for each worker, where the number of items is known and no size is given."""

LARGEST = 16_384
"""Items in a slice that nobody gave a size for."""


def check(chunksize: int | None, buffersize: int | None) -> None:
    """Check the options of a map(), as 3.14 does. Raises TypeError and ValueError."""
    if chunksize is not None and chunksize < 1:
        raise ValueError("chunksize must be >= 1.")
    if buffersize is not None and not isinstance(buffersize, int):
        raise TypeError("buffersize must be an integer or None")
    if buffersize is not None and buffersize < 1:
        raise ValueError("buffersize must be None or > 0")


class Slices:
    """The slices of a map(), submitted as they are asked for."""

    def __init__(
        self,
        executor: Executor,
        options: Options,
        fn: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        chunksize: int | None,
        lazy: bool,
    ) -> None:
        self.executor, self.options, self.fn = executor, options, fn
        self.iterator: Iterator[tuple[Any, ...]] = zip(*iterables, strict=False)
        if chunksize is None and not lazy:
            items = list(self.iterator)
            self.iterator = iter(items)
            chunksize = min(LARGEST, len(items) // (PARTS * executor._core.workers))
        self.size = max(1, chunksize or 1)

    def submit(self) -> SliceFuture | None:
        """Submit the next slice. None: there is no other."""
        items = list(islice(self.iterator, self.size))
        if not items:
            return None
        columns = [list(column) for column in zip(*items, strict=True)]
        return self.executor._submit(self.options, (self.fn, columns), self.fn, SliceFuture)  # type: ignore[return-value]


def run_map(slices: Slices, timeout: float | None, buffersize: int | None) -> Iterator[Any]:
    """Give the results in order. What fits the buffer is submitted at once, the rest as results are taken."""
    until = None if timeout is None else monotonic() + timeout
    waiting: deque[SliceFuture] = deque()
    while buffersize is None or len(waiting) < buffersize:
        task = slices.submit()
        if task is None:
            break
        waiting.append(task)
    return give_results(slices, waiting, until, buffersize is not None)


def give_results(slices: Slices, waiting: deque[SliceFuture], until: float | None, lazy: bool) -> Iterator[Any]:
    """Give the results of slices, and submit another for each that is done with. Whoever takes no more has the rest
    cancelled that has not begun."""
    try:
        while waiting:
            wait(waiting[0], until)
            task = waiting.popleft()
            if lazy:
                another = slices.submit()
                if another is not None:
                    waiting.append(another)
            yield from read_slice(task)
    finally:
        cancel_waiting(waiting)


def wait(task: SliceFuture, until: float | None) -> None:
    """Wait until a slice is done. Raises TimeoutError."""
    task._wait(None if until is None else until - monotonic())


def read_slice(task: SliceFuture) -> Iterator[Any]:
    """Give what the items of a slice gave, in order, and raise what the first one raised that did."""
    from pickle import loads

    parts, task.parts = task.parts, []
    for data, memory in parts:
        buffers: list[memoryview] = []
        if memory is not None:
            data, buffers = spilled.map_spilled(memory.fileno(), *data)
        values, errors = loads(data, buffers=buffers)
        if not errors:
            yield from values
            continue
        for index, value in enumerate(values):
            if index in errors:
                raise read_error(errors[index], task.name)
            yield value
    error = task.exception()
    if error is not None:
        raise error


def cancel_waiting(tasks: Iterable[SliceFuture]) -> None:
    """Cancel those that have not begun, as the standard map() does; what runs, runs on."""
    for task in tasks:
        if task._slot is None and task._publish(CANCELLED_AND_NOTIFIED, 0, None, None, LOCK_PATIENCE):
            task._core.post(task._core.note_cancelled)


def run_unordered(slices: Slices, timeout: float | None, buffersize: int) -> Iterator[Any]:
    """Give the results as they come. Slices are submitted as results are taken."""
    until = None if timeout is None else monotonic() + timeout
    done: SimpleQueue[SliceFuture] = SimpleQueue()
    waiting: set[SliceFuture] = set()

    def submit() -> None:
        task = slices.submit()
        if task is not None:
            waiting.add(task)
            task.add_done_callback(done.put)

    for _ in range(buffersize):
        submit()
    return give_unordered(submit, waiting, done, until)


def give_unordered(
    submit: Callable[[], None], waiting: set[SliceFuture], done: SimpleQueue[SliceFuture], until: float | None
) -> Iterator[Any]:
    """Give the results of slices as they come, and submit another for each."""
    from queue import Empty

    try:
        while waiting:
            try:
                task = done.get(timeout=None if until is None else max(0.0, until - monotonic()))
            except Empty:
                raise TimeoutError from None
            waiting.discard(task)
            submit()
            yield from read_slice(task)
    finally:
        cancel_waiting(waiting)
