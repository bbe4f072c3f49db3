"""max_pending: how many tasks, and bytes of them, may be under way. Whoever submits waits until there is room again."""

from __future__ import annotations

from _thread import allocate_lock, get_ident
from collections import deque
from contextlib import suppress
from math import inf

from warmfork.api.executor.errors import Full
from warmfork.api.executor.futures import LOCK_PATIENCE, wake

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType

    from warmfork.api.executor.dispatcher import Core


LOOK_AGAIN = 1.0
"""Seconds after which a sleeper looks by itself: nobody may have been left to wake it."""


class Room:
    """What is under way. Whoever submits counts it, under a lock; the dispatcher, which waits for nobody, says what has
    ended."""

    def __init__(self, most_tasks: int | None, most_bytes: int | None) -> None:
        self.most_tasks, self.most_bytes = most_tasks, most_bytes
        self.tasks = self.bytes = 0
        self.ended: deque[tuple[int, int]] = deque()  # tasks and bytes that have ended, and are not taken off yet
        self.lock = allocate_lock()
        self.sleepers: list[LockType] = []

    def enter(self, core: Core, size: int) -> None:
        """Count a task of so many bytes, as soon as there is room. Raises Full where this thread must not wait: it has an
        event loop, or is the one that brings the results."""
        while not self.try_enter(size):
            asleep = allocate_lock()
            asleep.acquire()
            self.sleepers.append(asleep)
            # Who ends a task looks for sleepers after it has said so: we are one before we look again.
            if self.has_room(size):
                with suppress(ValueError):  # it was woken in this moment
                    self.sleepers.remove(asleep)
                continue
            if core.thread == get_ident() or has_loop():
                with suppress(ValueError):
                    self.sleepers.remove(asleep)
                raise Full(*self.describe())
            asleep.acquire(True, LOOK_AGAIN)
            with suppress(ValueError):  # it was woken
                self.sleepers.remove(asleep)

    def try_enter(self, size: int) -> bool:
        """Count a task if there is room for it."""
        held: list[bool] = []
        try:
            # Taken and noted in one call, which ^C can't come between. Not for ever: a destructor may call this in the
            # thread that has the lock; then there is one task more than there may be.
            held.extend(map(self.lock.acquire, (True,), (LOCK_PATIENCE,)))
            if not held[0]:
                self.ended.append((-1, -size))
                return True
            while self.ended:
                tasks, size_of_them = self.ended[0]
                self.tasks -= tasks
                self.bytes -= size_of_them
                self.ended.popleft()  # last: what ^C leaves here is room too much, and not too little for ever
            if not self.has_room(size):
                return False
            self.tasks += 1
            self.bytes += size
            return True
        finally:
            if held and held[0]:
                self.lock.release()

    def has_room(self, size: int) -> bool:
        """Is there room? One that is larger than all may be has it when nothing else is under way."""
        tasks, held = self.count()
        return tasks < (self.most_tasks or inf) and (held + size <= (self.most_bytes or inf) or tasks <= 0)

    def count(self) -> tuple[int, int]:
        """Count the tasks that are under way, and their bytes."""
        ended = self.ended.copy()
        return self.tasks - sum(tasks for tasks, _ in ended), self.bytes - sum(size for _, size in ended)

    def leave(self, size: int) -> None:
        """A task of so many bytes has ended."""
        self.ended.append((1, size))
        wake(self.sleepers)

    def describe(self) -> tuple[int, str]:
        """Give the limit that was reached, and its name."""
        if self.most_tasks is not None and self.count()[0] >= self.most_tasks:
            return self.most_tasks, "max_pending"
        return self.most_bytes or 0, "max_pending_bytes"


def has_loop() -> bool:
    """Does an event loop run in this thread?"""
    import sys

    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None
