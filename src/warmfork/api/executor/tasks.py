"""What is to be run: its options, and its call, pickled by whoever submits it."""

from __future__ import annotations

from functools import partial
from pickle import dumps

from warmfork._machine import sockets, spilled
from warmfork._machine.fds import Fd
from warmfork._tasks import shared, work
from warmfork._words.buffers import Pickled, run
from warmfork.api import payload
from warmfork.api.executor.errors import WorkerDied

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TypedDict, Unpack

    from warmfork.api.executor.futures import TaskFuture

    class TaskOptions(TypedDict, total=False):
        """The options of with_options()."""

        timeout: float | None
        queue_timeout: float | None
        memory_limit: int | None
        retries: int
        retry_on: Iterable[type[BaseException]]
        name: str


class Options:
    """What holds for a task. None: no limit."""

    __slots__ = ("memory_limit", "name", "queue_timeout", "retries", "retry_names", "retry_on", "timed", "timeout")

    def __init__(
        self,
        timeout: float | None = None,
        queue_timeout: float | None = None,
        memory_limit: int | None = None,
        retries: int = 0,
        retry_on: Iterable[type[BaseException]] = (WorkerDied,),
        name: str = "",
    ) -> None:
        """Raises TypeError and ValueError."""
        check_number("timeout", timeout)
        check_number("queue_timeout", queue_timeout)
        check_number("memory_limit", memory_limit)
        if not retries >= 0:
            raise ValueError(f"retries is a number from 0, not {retries!r}")
        self.retry_on = tuple(retry_on)
        for one in self.retry_on:
            if not issubclass(one, BaseException):
                raise TypeError(f"retry_on has classes of exceptions, not {one!r}")
        self.timeout, self.queue_timeout, self.memory_limit = timeout, queue_timeout, memory_limit
        self.retries = retries
        self.name = name
        # By name: to decide about what a worker raised, its exception is not unpickled.
        self.retry_names = frozenset(f"{one.__module__}.{one.__qualname__}" for one in self.retry_on)
        self.timed = timeout is not None or memory_limit is not None

    def change(self, **changes: Unpack[TaskOptions]) -> Options:
        """Give options that differ in these. Raises TypeError for one that there is none of."""
        known = {name: getattr(self, name) for name in FIELDS}
        strange = changes.keys() - known.keys()
        if strange:
            raise TypeError(f"with_options() has no option {', '.join(sorted(strange))}: it has {', '.join(FIELDS)}")
        return Options(**{**known, **changes})


FIELDS = ("timeout", "queue_timeout", "memory_limit", "retries", "retry_on", "name")


def check_number(name: str, value: object) -> None:
    """Check a limit. Raises TypeError and ValueError."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is a number, or None, not {value!r}")
    if not value > 0:
        raise ValueError(f"{name} must be above 0, not {value!r}")


def check_whole(name: str, value: object) -> None:
    """Check a number of tasks or bytes. Raises TypeError and ValueError."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is a number, not {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1")


MAIN = b"__main__"


def pickle_call(call: object) -> tuple[list[Any], list[memoryview]]:
    """Pickle a call: by reference where a worker finds it by name, by value (cloudpickle) where it can't; large buffers
    aside. Raises what pickle raises, naming the part that can't be pickled."""
    buffers: list[Any] = []
    try:
        data = dumps(call, 5, buffer_callback=buffers.append)
        if MAIN not in data and not buffers:
            return [data], []
    except payload.REFUSALS:
        buffers.clear()  # by value it may go
    pickled = payload.dump(call, dump_plain, dump_by_value, False)
    return pickled.parts, pickled.buffers


def dump_plain(value: object) -> Pickled:
    """Pickle by reference."""
    from pickle import Pickler

    return run(Pickler, value, True)


def dump_by_value(value: object) -> Pickled:
    """Pickle by value what is of `__main__`, or has no name."""
    from warmfork._tasks.by_value import make_pickler

    return run(make_pickler(False), value, True)


def fill(future: TaskFuture, call: object) -> int:
    """Give a future its call, in a memfd where that is large. Gives its bytes. Raises what pickle raises, OSError,
    and ValueError for too many shared buffers."""
    if shared.in_use:
        (parts, buffers), handles = shared.collect(partial(pickle_call, call))
        if len(handles) >= sockets.MOST_FDS:  # that of a large call is another
            raise ValueError(
                f"{len(handles)} shared buffers in one task: {sockets.MOST_FDS - 1} are the most; share what belongs "
                "together as one object, or give map() a smaller chunksize"
            )
        if handles:
            future._shared = handles
    else:
        parts, buffers = pickle_call(call)
    size = sum(map(len, parts))
    if not buffers and size <= work.INLINE:
        future._call = parts[0] if len(parts) == 1 else b"".join(parts)
        return size
    future._measures = size, len(buffers)
    future._call_memory = Fd(spilled.spill(parts, buffers, "a task"))
    return size + sum(map(len, buffers))


def pickle_initializer(initializer: object, initargs: tuple[Any, ...]) -> tuple[bytes, tuple[Any, ...]]:
    """Pickle what each worker begins with, and give what shared memory that has; b"" where there is nothing. Raises what
    pickle raises."""
    if initializer is None:
        return b"", ()

    def plain(value: object) -> Pickled:
        from pickle import Pickler

        return run(Pickler, value, False)

    def by_value(value: object) -> Pickled:
        from warmfork._tasks.by_value import make_pickler

        return run(make_pickler(False), value, False)

    pickled, handles = shared.collect(partial(payload.dump, (initializer, tuple(initargs)), plain, by_value, False))
    return b"".join(pickled.parts), handles
