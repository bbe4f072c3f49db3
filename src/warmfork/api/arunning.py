"""arun(): as run(), in an event loop, without a thread and without making the loop wait."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from resource import RLIMIT_NOFILE, getrlimit
from time import monotonic
from weakref import WeakKeyDictionary

from warmfork.api.running import attach, complete, judge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future, TimerHandle
    from collections.abc import Awaitable, Callable
    from typing import Any

    from warmfork._client.handle import Child
    from warmfork.api.awaiting import ChannelReader
    from warmfork.api.completed import Completed
    from warmfork.api.running import Task
    from warmfork.api.watching import Watched

ANSWER_TIMEOUT = 2.0
"""Seconds that a template has to tell how a child ended that is dead already."""

DEATH_TIMEOUT = 5.0
"""Seconds to wait for the end of a child that was killed, where whoever waited was cancelled."""

FDS_EACH, FDS_SPARED = 8, 32
"""Fds that a run takes while it is started, and those that are left to everybody else."""


class LoopPoller:
    """The fds of one child, watched by an event loop."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.loop = loop
        self.watched: Watched | None = None
        self.reading: set[int] = set()
        self.writing: set[int] = set()
        self.future: Future[None] | None = None
        self.timer: TimerHandle | None = None

    def add(self, fd: int, write: bool = False) -> None:
        """Watch an fd."""
        if write:
            self.writing.add(fd)
            self.loop.add_writer(fd, self.tell, fd)
        else:
            self.reading.add(fd)
            self.loop.add_reader(fd, self.tell, fd)

    def remove(self, fd: int) -> None:
        """Watch it no longer."""
        open_ = not self.loop.is_closed()
        if fd in self.writing:
            self.writing.discard(fd)
            if open_:
                self.loop.remove_writer(fd)
        if fd in self.reading:
            self.reading.discard(fd)
            if open_:
                self.loop.remove_reader(fd)

    def tell(self, fd: int) -> None:
        """Something happened on this fd."""
        if self.watched is not None and (fd in self.reading or fd in self.writing):
            self.watched.on_ready(fd)
            self.plan()

    def tell_time(self) -> None:
        """Time has passed."""
        self.timer = None
        if self.watched is not None:
            self.watched.on_time()
            self.plan()

    def plan(self) -> None:
        """Have the loop wake us when it is time, or whoever waits where it is over."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        watched, future = self.watched, self.future
        if watched is None or future is None or future.done():
            return
        if watched.over:
            future.set_result(None)
            return
        due = watched.get_due()
        if due is not None:
            self.timer = self.loop.call_later(max(0.0, due - monotonic()), self.tell_time)

    async def wait(self, watched: Watched) -> None:
        """Wait until it is over."""
        self.watched = watched
        self.future = self.loop.create_future()
        try:
            self.plan()
            await self.future
        finally:
            self.future = None
            if self.timer is not None:
                self.timer.cancel()
                self.timer = None

    async def wait_for_end(self, watched: Watched) -> None:
        """Wait until it is dead that was killed, whoever cancels that too, and not for ever."""
        deadline = monotonic() + DEATH_TIMEOUT
        while not watched.dead and monotonic() < deadline:
            watched.over = False
            try:
                async with asyncio.timeout(deadline - monotonic()):
                    await self.wait(watched)
            except (asyncio.CancelledError, TimeoutError):
                continue


class Gate:
    """No more at a time than there is room for, in the order in which they came."""

    def __init__(self, count_room: Callable[[], int]) -> None:
        self.count_room = count_room
        self.inside = 0
        self.most = 0
        self.waiting: deque[Future[None]] = deque()

    async def __aenter__(self) -> None:
        if not self.inside:
            self.most = max(1, self.count_room())
        if self.inside < self.most and not self.waiting:
            self.inside += 1
            return
        future = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        try:
            await future
        except BaseException:
            if future.done() and not future.cancelled():
                self.leave()  # our turn had come
            elif future in self.waiting:
                self.waiting.remove(future)
            raise

    async def __aexit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """It is over: the next one's turn."""
        while self.waiting:
            future = self.waiting.popleft()
            if not future.done():
                future.set_result(None)
                return
        self.inside -= 1


def count_room() -> int:
    """Give how many children at a time this process has fds for."""
    return (getrlimit(RLIMIT_NOFILE)[0] - len(os.listdir("/proc/self/fd")) - FDS_SPARED) // FDS_EACH


STARTS = 8
"""Starts under way at a time. More of them would not be sooner, for the template forks one after the other; and what each
takes of the loop's time would come in one turn."""

_gates: WeakKeyDictionary[AbstractEventLoop, tuple[Gate, Gate]] = WeakKeyDictionary()


def get_gates() -> tuple[Gate, Gate]:
    """Give the running loop's gates: for those that run, and for those that are being started."""
    loop = asyncio.get_running_loop()
    if loop not in _gates:
        _gates[loop] = Gate(count_room), Gate(lambda: STARTS)
    return _gates[loop]


async def arun(
    make_task: Callable[[], Task], start: Callable[[Task], Awaitable[tuple[Child, ChannelReader]]]
) -> Completed[Any]:
    """Start a child for a task, wait for its end, and give what came of it. Whatever is raised, the child is dead."""
    running, starting = get_gates()
    async with running:
        async with starting:
            began = monotonic()
            task = make_task()
            try:
                child, reader = await start(task)
            except BaseException:
                task.close()
                raise
        poller = LoopPoller(asyncio.get_running_loop())
        watched = attach(task, child, poller)
        try:
            try:
                await poller.wait(watched)
            except asyncio.CancelledError:
                watched.stop(None)
                await poller.wait_for_end(watched)
                raise
            await settle(child, reader)
            completed = complete(watched, began)
        finally:
            watched.finish()
        return judge(watched, completed, task.name, task.options["check"])


async def settle(child: Child, reader: ChannelReader) -> None:
    """Wait until it is known how a dead child ended."""
    deadline = reader.channel.give_answer_time(ANSWER_TIMEOUT)
    await reader.wait_until(lambda: child._record.exited is not None, deadline)
    if reader.channel.dead and child.outcome is None:
        # Its template died too: the tracker is asked, which may take a while.
        await asyncio.get_running_loop().run_in_executor(None, child.wait)
