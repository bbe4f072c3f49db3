"""map(): many calls of one function, in slices. A slice goes on for 10 ms at a time, so a long one holds nobody up."""

from __future__ import annotations

from collections import deque
from collections.abc import Sized
from concurrent.futures._base import CANCELLED_AND_NOTIFIED
from itertools import chain, islice, repeat, starmap
from queue import SimpleQueue
from time import monotonic

from warmfork._machine import spilled
from warmfork.api.executor.futures import LOCK_PATIENCE, SliceFuture, read_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from typing import Any

    from warmfork.api.executor.executor import Executor
    from warmfork.api.executor.tasks import Options

PARTS = 8
"""Slices for each worker, where the number of items is known and no size is given."""

LARGEST = 8192
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
        if chunksize is None and not lazy and iterables:
            lengths = [len(one) for one in iterables if isinstance(one, Sized)]
            if not lengths:
                iterables = (list(iterables[0]),) if len(iterables) == 1 else tuple(zip(*zip(*iterables)))  # noqa: B905
                lengths = [len(one) for one in iterables if isinstance(one, Sized)] or [0]
            chunksize = min(LARGEST, min(lengths) // (PARTS * executor._core.workers))
        self.size = max(1, chunksize or 1)
        self.iterators = [iter(one) for one in iterables]

    def submit(self) -> SliceFuture | None:
        """Submit the next slice. None: there is no other."""
        columns = []
        size = self.size
        for iterator in self.iterators:  # no tuples of arguments: a column is pickled many times as fast
            column = list(islice(iterator, size))
            size = len(column)
            columns.append(column)
        if not columns or not size:
            return None
        for column in columns:
            del column[size:]
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
    # Where all are submitted, whoever has the results does not hold the executor.
    return flatten(give_results(None if buffersize is None else slices, waiting, until))


class Results(chain):  # type: ignore[type-arg]
    """The results of a map(), which come in lists. Iterating over them takes no Python code for each."""

    source: Generator[Any, None, None]

    def close(self) -> None:
        """Take no more: what has not begun is cancelled."""
        self.source.close()


def flatten(lists: Generator[Iterable[Any], None, None]) -> Results:
    """Give the items of lists."""
    results: Any = Results.from_iterable(lists)
    results.source = lists
    return results  # type: ignore[no-any-return]


def give_results(
    slices: Slices | None, waiting: deque[SliceFuture], until: float | None
) -> Generator[Iterable[Any], None, None]:
    """Give the results of slices, and submit another for each that is done with. Whoever takes no more has the rest
    cancelled that has not begun."""
    try:
        while waiting:
            wait(waiting[0], until)
            task = waiting.popleft()
            if slices is not None:
                another = slices.submit()
                if another is not None:
                    waiting.append(another)
            yield from read_slice(task)
    finally:
        cancel_waiting(waiting)


def wait(task: SliceFuture, until: float | None) -> None:
    """Wait until a slice is done. Raises TimeoutError."""
    task._wait(None if until is None else until - monotonic())


def read_slice(task: SliceFuture) -> Iterator[Iterable[Any]]:
    """Give what the items of a slice gave, in order, in lists, and raise what the first one raised that did."""
    from pickle import loads

    parts, task.parts = task.parts, []
    for data, memory in parts:
        buffers: list[memoryview] = []
        if memory is not None:
            data, buffers = spilled.map_spilled(memory.fileno(), *data)
        values, errors = loads(data, buffers=buffers)
        if errors:
            first = min(errors)
            yield values[:first]
            raise read_error(errors[first], task.name)
        yield values if len(values) > FEW else let_go(values)
    error = task.exception()
    if error is not None:
        raise error


FEW = 64
"""Results that are let go of one by one: where they are few, each may be large. Many stay in their list, which is twice as
fast to go through."""


def let_go(values: list[Any]) -> Iterator[Any]:
    """Give the items of a list, which keeps none that was given."""
    values.reverse()
    return starmap(values.pop, repeat((), len(values)))


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
    return flatten(give_unordered(submit, waiting, done, until))


def give_unordered(
    submit: Callable[[], None], waiting: set[SliceFuture], done: SimpleQueue[SliceFuture], until: float | None
) -> Generator[Iterable[Any], None, None]:
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
