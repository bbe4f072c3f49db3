"""A future that costs little: no lock before somebody waits, the result unpickled when it is asked for, by whoever asks.

All changes of its state are made here, by `publish`, and the first one wins. The standard class's own ways of changing it
are not used: they take a lock, for ever if ^C has lost it, and raise where two come at once.
"""

from __future__ import annotations

import os
from _thread import allocate_lock, get_ident
from collections import deque
from concurrent.futures import CancelledError, Future
from concurrent.futures._base import CANCELLED_AND_NOTIFIED, FINISHED, PENDING, RUNNING
from contextlib import suppress
from threading import TIMEOUT_MAX, Condition
from time import monotonic, monotonic_ns

from warmfork._machine import spilled
from warmfork._tasks import work
from warmfork._words.errors import RemoteTraceback
from warmfork.api.completed import ResultError
from warmfork.api.executor.errors import ForkedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Callable
    from typing import Any, Self

    from typing_extensions import TypeVar

    from warmfork._machine.fds import Fd
    from warmfork.api.executor.dispatcher import Core
    from warmfork.api.executor.slots import Slot
    from warmfork.api.executor.tasks import Options

    T = TypeVar("T", default=Any)

ERROR, PARTS = -1, -2
"""The kinds of a result that is an exception of this process, and of one that has several pickles."""

SLOW_CALLBACK = 0.1

LOCK_PATIENCE = 0.05
"""Seconds for which a change of state waits for a future's condition. Whoever holds it for longer was interrupted while it
did, and will never let go: then the change is made without."""


class TaskFuture(Future["T"]):
    """What submit() gives. A concurrent.futures.Future, and more: `name`, `started`, `pid`, `attempts`, `output`."""

    # What most futures never change is the class's, and costs them nothing.
    _state = PENDING
    _cond: Condition | None = None
    _waiters: Any = ()
    _sleepers: list[LockType] | None = None
    _callbacks: deque[Callable[[Any], object]] | None = None
    _kind = 0
    _data: Any = b""  # what it gave: bytes, or where the memory has it: bytes of the pickle, number of buffers
    _memory: Fd | None = None
    _call_memory: Fd | None = None  # what holds the call, where that is large
    _shared: tuple[Any, ...] = ()  # what it refers to that lies in shared memory
    _measures: tuple[int, int] = (0, 0)  # of that: bytes of the pickle, number of buffers
    _opened: tuple[Any, BaseException | None] | None = None
    _size = -1  # bytes of the call, where it takes room of max_pending
    _slot: Slot | None = None
    _number = 0
    _start = -1  # of a slice of a map(): the first item that is still to be done
    parts: list[tuple[Any, Fd | None]] = []  # noqa: RUF012  # a slice has its own
    _deadline: float | None = None  # until when it may wait in the queue
    _name = "task"
    attempts: int = 0
    """How many times it was started."""
    pid: int | None = None
    """The process that runs it, or ran it last."""
    output: str = ""
    """What it wrote to stdout and stderr, with capture_output=True."""

    def __init__(self, core: Any, options: Any) -> None:  # Any: not for users to make
        # Not the base's: it makes a condition, which takes longer than all the rest of a task's life.
        self._core: Core = core
        self._options: Options = options
        self._call = b""
        self._born = monotonic_ns()

    def __repr__(self) -> str:
        state = "running" if self.running() else self._state.lower().replace("_and_notified", "")
        return f"<TaskFuture {self.name} {state}>"

    def __reduce__(self) -> Any:
        raise TypeError("a future can't be pickled: it belongs to the executor of this process")

    @property
    def name(self) -> str:
        """What the task is called: with_options(name=), or its function."""
        return self._name

    def let_go(self) -> None:
        """The call is not needed any longer."""
        self._call, self._call_memory, self._shared = b"", None, ()

    # -- what the standard functions wait(), as_completed() and wrap_future() want to find

    if not TYPE_CHECKING:  # an attribute, for as_completed() takes nothing else

        @property
        def _condition(self):
            made = self._cond
            if made is None:
                own = self.__dict__
                own.setdefault("_waiters", [])
                made = own.setdefault("_cond", Condition())
            return made

    def _get_snapshot(self) -> tuple[bool, bool, Any, BaseException | None]:
        """What asyncio copies (3.14)."""
        if self._state is CANCELLED_AND_NOTIFIED:
            return True, True, None, None
        if self._state is not FINISHED:
            return False, False, None, None
        return True, False, *self._open()

    # -- asking

    def cancelled(self) -> bool:
        """Was it cancelled?"""
        return self._state is CANCELLED_AND_NOTIFIED

    def done(self) -> bool:
        """Has it ended?"""
        return self._state is FINISHED or self._state is CANCELLED_AND_NOTIFIED

    def running(self) -> bool:
        """Does it run now?"""
        if self._state is FINISHED or self._state is CANCELLED_AND_NOTIFIED:
            return False
        slot = self._slot
        return self._state is RUNNING or (slot is not None and slot.has_started(self._number))

    @property
    def started(self) -> bool:
        """Was it ever started?"""
        return self.attempts > 0 or self.running()

    def result(self, timeout: float | None = None) -> T:
        """Give what the call returned, or raise what it raised. Waits for it, up to `timeout` seconds (TimeoutError).

        Raises CancelledError, WorkerDied, TaskTimeout, LimitExceeded, ResultError.
        """
        self._wait(timeout)
        value: T
        value, error = self._open()
        if error is not None:
            try:
                raise error
            finally:
                del self, error  # or traceback and frame would keep each other
        return value

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Give what the call raised, or None. Waits, and raises, as result() does."""
        self._wait(timeout)
        return self._open()[1]

    def _wait(self, timeout: float | None) -> None:
        """Wait until it has ended. Raises TimeoutError, and CancelledError."""
        if self._state is not FINISHED and self._state is not CANCELLED_AND_NOTIFIED:
            core = self._core
            if core.pid != os.getpid():
                raise ForkedError
            if core.thread == get_ident():
                raise RuntimeError(
                    "a callback of an executor's future can't wait for another future of it: callbacks run in the thread "
                    "that brings the results"
                )
            asleep = allocate_lock()
            asleep.acquire()
            sleepers = self.__dict__.setdefault("_sleepers", [])
            sleepers.append(asleep)
            rest = -1 if timeout is None else min(max(0.0, timeout), TIMEOUT_MAX)
            if not self.done() and not asleep.acquire(True, rest):
                with suppress(ValueError):  # it was woken in this moment
                    sleepers.remove(asleep)
                if not self.done():
                    raise TimeoutError
        if self._state is CANCELLED_AND_NOTIFIED:
            raise CancelledError

    def _open(self) -> tuple[Any, BaseException | None]:
        """Give value and exception. They are unpickled when they are first asked for, by whoever asks: that is the user's
        code, and may take its time, or want a lock that the user holds."""
        found = self._opened
        if found is None:
            found = self.__dict__.setdefault("_opened", self._read())
            self._data, self._memory = b"", None
        return found

    def _read(self) -> tuple[Any, BaseException | None]:
        """Unpickle."""
        from pickle import loads

        kind, data, memory = self._kind, self._data, self._memory
        if kind == ERROR:
            return None, data
        if kind == PARTS:
            return data, None
        try:
            buffers: list[memoryview] = []
            if memory is not None:
                data, buffers = spilled.map_spilled(memory.fileno(), *data)
            if kind == work.VALUE:
                return loads(data, buffers=buffers), None
            if kind == work.REFUSED:
                return None, ResultError(bytes(data).decode("utf-8", "replace"))
            return None, read_error(data, self.name)
        except BaseException as error:
            return None, ResultError(f"what {self.name} gave can't be unpickled here: {type(error).__name__}: {error}")

    def add_done_callback(self, fn: Callable[[Self], object]) -> None:
        """Call this with the future when it has ended: in the executor's thread, or at once if it has."""
        self.__dict__.setdefault("_callbacks", deque()).append(fn)
        if self.done():
            self._call_back(False)

    # -- changing

    def cancel(self) -> bool:
        """Cancel it. One that runs is ended, with all that it has started, unless the executor says cancel_running=False."""
        if self._state is CANCELLED_AND_NOTIFIED:
            return True
        if self._state is RUNNING or self._state is FINISHED:
            return False
        if not self._publish(CANCELLED_AND_NOTIFIED, 0, b"", None, LOCK_PATIENCE):
            return self._state is CANCELLED_AND_NOTIFIED
        self._core.forget(self)
        return True

    def _publish(self, state: str, kind: int, data: Any, memory: Fd | None, patience: float) -> bool | None:
        """Change the state, once: True where this was the change. False: it has ended already. None: somebody holds the
        condition for longer than `patience` seconds; try again, or give up waiting with a patience of LOCK_PATIENCE."""
        if self._cond is None:
            # There is no call between this look and the last of these lines, so no other thread can come in between.
            if self._state is not PENDING and self._state is not RUNNING:
                return False
            self._kind, self._data, self._memory = kind, data, memory
            self._state = state
        else:
            held = self._cond.acquire(patience > 0, patience if patience > 0 else -1)
            if not held and patience < LOCK_PATIENCE:
                return None
            try:
                if self._state is not PENDING and self._state is not RUNNING:
                    return False
                self._kind, self._data, self._memory = kind, data, memory
                self._state = state
                for waiter in self._waiters:
                    tell(waiter, self)
                if held:
                    self._cond.notify_all()
            finally:
                if held:
                    self._cond.release()
        if self._size >= 0 and self._core.room is not None:
            self._core.room.leave(self._size)
        if self._sleepers is not None:
            wake(self._sleepers)
        if self._callbacks is not None:
            self._call_back(True)
        return True

    def _call_back(self, guarded: bool) -> None:
        """Call the callbacks, each once, whoever comes first. What they raise concerns nobody: it is logged."""
        callbacks = self._callbacks
        while callbacks:
            try:
                fn = callbacks.popleft()
            except IndexError:
                return
            began = monotonic()
            try:
                fn(self)
            except BaseException as error:
                if not guarded and not isinstance(error, Exception):
                    raise
                log().exception("exception calling callback for %r", self)
            if guarded and monotonic() - began > SLOW_CALLBACK:
                log().warning("the callback %r took %.1f s, in which no result came", fn, monotonic() - began)


class SliceFuture(TaskFuture):
    """A part of a map(): its result is a list of pickles, each with where it lies, in `parts`."""

    def __init__(self, core: Core, options: Options) -> None:
        super().__init__(core, options)
        self._start = 0
        self.parts: list[tuple[Any, Fd | None]] = []


def wake(sleepers: list[LockType]) -> None:
    """Wake those who wait in result()."""
    while sleepers:
        try:
            sleepers.pop().release()
        except IndexError:
            return


def tell(waiter: Any, future: TaskFuture) -> None:
    """Tell one of wait() or as_completed(). One whose locks ^C has lost is told nothing: nobody reads it."""
    locks = [lock for lock in (getattr(waiter, "lock", None), waiter.event._cond) if lock is not None]
    for lock in locks:
        if not lock.acquire(True, LOCK_PATIENCE):
            return
        lock.release()
    if future._state is CANCELLED_AND_NOTIFIED:
        waiter.add_cancelled(future)
    elif future._kind == work.VALUE:
        waiter.add_result(future)
    else:
        waiter.add_exception(future)


def read_error(data: Any, name: str) -> BaseException:
    """Give the exception that a worker has sent, its traceback there as its cause."""
    from pickle import loads

    _, text, pickle = work.unpack_error(data)
    if not len(pickle):
        return ResultError(f"{name} raised what can't be pickled:\n{text}")
    try:
        error = loads(pickle)
    except BaseException as refusal:
        return ResultError(f"what {name} raised can't be unpickled here ({refusal!r}):\n{text}")
    if not isinstance(error, BaseException):
        return ResultError(f"{name} raised what is no exception here:\n{text}")
    remote = RemoteTraceback(f"In {name}:\n{text}")
    # The text has it all; the worker's own chain can be had here, and is not printed a second time.
    remote.__context__, remote.__suppress_context__ = error.__cause__ or error.__context__, True
    error.__cause__ = remote
    return error


def log() -> Any:
    """Give the executor's logger."""
    from logging import getLogger

    return getLogger("warmfork.executor")
