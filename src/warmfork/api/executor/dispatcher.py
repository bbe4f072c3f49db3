"""The executor's state, and the one thread that changes it: it hands out tasks, reads results, sees deaths, keeps time.

It runs no code of users but callbacks, unpickles nothing, and waits for no lock of theirs. Other threads may hand out tasks
too (an idle worker has its task before submit() returns), under a lock that is held for a few microseconds; everything else
they ask for by post().
"""

from __future__ import annotations

import os
from _thread import get_ident
from collections import deque
from concurrent.futures._base import FINISHED
from functools import partial
from select import EPOLLIN, epoll
from time import monotonic, sleep

from warmfork._machine import state
from warmfork._tasks.work import ENDED_FOR
from warmfork._words.outcome import Lost, Outcome
from warmfork.api.executor import births, closing, results
from warmfork.api.executor.errors import ExecutorBroken, WorkerDied
from warmfork.api.executor.futures import ERROR, LOCK_PATIENCE, log
from warmfork.api.executor.handing import DEEP, Handing, unmark
from warmfork.api.executor.killing import Killing
from warmfork.api.executor.recycling import Recycling
from warmfork.api.executor.timing import SOON, Timing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Thread
    from typing import Any

    from warmfork._machine.fds import Fd
    from warmfork.api.executor.futures import TaskFuture
    from warmfork.api.executor.recycling import Worn
    from warmfork.api.executor.room import Room
    from warmfork.api.executor.slots import Slot
    from warmfork.api.template import Template

FILL_EVERY = 63
"""submit() fills the workers each time that so many more wait (a mask): the dispatcher may not have its turn before 5 ms."""

NO_WAIT = (False,)

COALESCE = 0.0003
"""Seconds to wait after a read where many results are due: they come together then."""


class Core(Handing):
    """One executor."""

    def __init__(self, workers: int, cancel_running: bool, worn: Worn) -> None:
        """`worn`: the most tasks, seconds and bytes of a worker. With one task a worker forks for each."""
        self.forks = worn[0] == 1
        super().__init__(cancel_running, None if self.forks else worn[0])
        self.recycling = Recycling(self, *(None, None, None) if self.forks else worn)
        self.pid = os.getpid()
        self.workers = workers
        self.hungry = True  # another worker could be started
        self.commands: deque[Callable[[], object]] = deque()
        self.touched: set[Slot] = set()  # have answered in this turn
        self.unpublished: list[tuple[Any, ...]] = []  # somebody holds the lock of that future
        self.undecided: list[tuple[Slot, TaskFuture, str]] = []  # to be ended, and not known to have begun
        self.ended: list[tuple[TaskFuture, int, Any, Fd | None]] = []  # to be told at the end of this turn
        self.due: float | None = None  # when to look at what time brings
        self.burying = 0
        self.closing = False
        self.over = False
        self.broken: BaseException | None = None
        self.counts = {"done": 0, "failed": 0, "died": 0, "retried": 0, "late": 0, "cancelled": 0, "timed_out": 0}
        self.latency = [0] * 64  # tasks, by the number of bits of the ns that they took
        self.timing = Timing(self)
        self.births: births.Births
        self.thread = 0
        self.poked = False
        self.poller = epoll()  # first, for it closes itself where there is no file left for the other
        self.awake = state.move_high(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
        self.poller.register(self.awake, EPOLLIN)
        self.handlers: dict[int, Callable[[], object]] = {self.awake: self.calm_down}
        self.room: Room | None = None  # with max_pending
        self.template: Template | None = None  # one that ends with us
        self.runner: Thread

    # -- for any thread

    def submit(self, task: TaskFuture) -> None:
        """Take a task on."""
        queue = self.queue
        queue.append(task)
        deep = not len(queue) & FILL_EVERY
        if self.idle or deep:
            self.try_hand_out()
        if (self.hungry and queue) or deep:
            self.wake()
        if self.over:
            closing.sweep(self)

    def try_hand_out(self) -> None:
        """Hand out tasks, unless somebody else does: then the dispatcher is told.

        The lock is taken, and that noted, in one call: ^C can't come in between and lose it.
        """
        held: list[bool] = []
        try:
            held.extend(map(self.lock.acquire, NO_WAIT))
            if held[0]:
                self.hand_out()
        except BaseException:
            self.wake()  # who finds what is left half done
            raise
        finally:
            if held and held[0]:
                self.lock.release()
        if not held[0] or (self.queue and self.idle):
            self.wake()

    def post(self, command: Callable[[], object]) -> None:
        """Have the dispatcher do this. Waits for nothing, so that a destructor or a signal handler may call it."""
        self.commands.append(command)
        if self.over:
            self.obey()
        else:
            self.wake()

    def wake(self) -> None:
        """Wake the dispatcher, once for all who want to before it has."""
        if not self.poked:
            self.poked = True
            try:
                os.eventfd_write(self.awake, 1)
            except OSError:
                self.poked = self.over  # closed: nobody is left to be woken

    def forget(self, task: TaskFuture) -> None:
        """This task was cancelled: it does not start from now on. If it runs, the dispatcher ends it."""
        slot = task._slot
        if slot is not None and not slot.dead:
            held: list[bool] = []
            try:
                # Not for ever: a destructor may call this in the thread that has the lock.
                held.extend(map(self.lock.acquire, (True,), (LOCK_PATIENCE,)))
                if held[0] and not slot.dead:
                    self.put_back(slot.take_back())
            finally:
                if held and held[0]:
                    self.lock.release()
        self.post(partial(self.drop, task))

    # -- the dispatcher's thread

    def run(self) -> None:
        """Serve until all is over."""
        self.thread = get_ident()
        try:
            while not self.over:
                self.turn()
        except BaseException as error:
            log().critical("the executor can't go on", exc_info=True)
            from traceback import format_exc

            self.broken = ExecutorBroken(f"a fault of the executor's own: {error!r}", format_exc())
            closing.end_all(self, self.broken)
        closing.let_go(self)

    def turn(self) -> None:
        """Wait until something happens, and see to it."""
        due = self.due
        events = self.poller.poll(None if due is None else max(0.0, due - monotonic()))
        for fd, _ in events:
            handler = self.handlers.get(fd)
            if handler is not None:
                handler()
        self.obey()
        if due is not None and monotonic() >= due:
            self.timing.look()
        self.refill()
        self.due = self.timing.get_due()
        # Last of all, for whoever is woken wants the interpreter, which is free while we wait.
        if self.ended:
            self.tell_ended()
            if self.unpublished:
                self.due = monotonic() + SOON
        if self.closing:
            closing.look(self)
            self.due = self.timing.get_due()
        if sum(len(slot.tasks) for slot in self.slots) > DEEP * len(self.slots):
            sleep(COALESCE)

    def obey(self) -> None:
        """Do what was asked for."""
        while self.commands:
            try:
                command = self.commands.popleft()
            except IndexError:
                return
            command()

    def calm_down(self) -> None:
        """We are awake."""
        os.eventfd_read(self.awake)
        self.poked = False

    def watch(self, fd: int, handler: Callable[[], object]) -> None:
        """Call this when there is something to read."""
        self.poller.register(fd, EPOLLIN)
        self.handlers[fd] = handler

    def unwatch(self, fd: int) -> None:
        """No longer. Always before it is closed."""
        if self.handlers.pop(fd, None) is not None:
            self.poller.unregister(fd)

    def refill(self) -> None:
        """Those that have answered get more to do; where all are busy, and more wait, another worker is started."""
        with self.lock:
            for slot in self.touched:
                slot.full = False
                if not slot.tasks and not slot.idle and slot.is_usable():
                    slot.idle = True
                    self.idle.append(slot)
            self.touched.clear()
            self.hand_out()
        self.births.plan()

    # -- what happens to a worker

    def take_slot(self, slot: Slot) -> None:
        """A worker was started."""
        self.births.under_way -= 1
        if self.over or slot.child is None:
            closing.discard(slot)
            return
        with self.lock:
            self.slots.append(slot)
        self.watch(slot.pipe, partial(results.read, self, slot))
        self.watch(slot.child.fileno(), partial(self.take_death, slot))

    def take_failure(self, count: int, began: float, error: BaseException) -> None:
        """So many workers could not be started."""
        self.births.under_way -= count
        final = self.births.note_failure(began) or isinstance(error, births.FINAL)
        log().warning("no worker could be started: %s", error)
        if final and not self.slots:
            self.give_up(error)

    def give_up(self, error: BaseException) -> None:
        """No worker can be had: nobody waits for ever."""
        self.broken = error
        with self.lock:
            tasks = [*self.in_hand, *self.queue]
            self.queue.clear()
            self.in_hand.clear()
        for task in tasks:
            self.publish(task, FINISHED, ERROR, closing.copy_error(error))

    def take_death(self, slot: Slot) -> None:
        """A worker is dead: what it has said is read to the end, what it has not started moves on."""
        if slot.dead or slot.child is None:
            return
        self.unwatch(slot.child.fileno())
        results.drain(self, slot)
        slot.dead = True
        self.unwatch(slot.pipe)
        with self.lock:
            self.slots.remove(slot)
            if slot.idle:
                self.idle.remove(slot)
            self.touched.discard(slot)
            self.put_back(slot.settle())
        self.burying += 1
        if not slot.ready and not slot.leaving:
            slot.last = self.births.note_failure(slot.born)
        births.run_aside(partial(births.bury, self, slot))

    def take_outcome(self, slot: Slot, outcome: Outcome) -> None:
        """It is known how a worker ended."""
        self.burying -= 1
        output = births.read_output(slot)
        for task in slot.tasks.values():
            task.note_started(slot.pid)
            self.counts["died"] += not task.done()
            self.fail(task, WorkerDied(task.name, outcome, getattr(outcome, "stack", ""), output, slot.pid))
        slot.tasks.clear()
        if not slot.ready and not slot.leaving and not self.closing:
            if slot.last and not any(other.ready for other in self.slots):
                self.give_up(self.births.explain(slot))
            else:
                log().warning("a worker ended before it could work: %s", self.births.explain(slot))
        slot.close()

    # -- what happens to a task

    def tell_ended(self) -> None:
        """Tell those who wait for tasks that have ended."""
        ended, self.ended = self.ended, []
        for task, kind, data, memory in ended:
            self.publish(task, FINISHED, kind, data, memory)

    def publish(self, task: TaskFuture, state: str, kind: int, data: Any, memory: Fd | None = None) -> None:
        """End a task, unless it has ended. Where somebody holds its lock, that is tried again later."""
        won = task._publish(state, kind, data, memory, 0.0)
        if won is None:
            self.unpublished.append((monotonic() + LOCK_PATIENCE, task, state, kind, data, memory))
        elif not won:
            self.counts["late"] += 1

    def fail(self, task: TaskFuture, error: BaseException) -> None:
        """A task that was started came to nothing: it is tried again only where its options say so."""
        options = task._options
        over = task.done() or self.broken is not None
        if task.attempts <= options.retries and isinstance(error, options.retry_on) and not over:
            self.counts["retried"] += 1
            task.note_retried()
            self.put_back_one(task)
            return
        self.publish(task, FINISHED, ERROR, error)

    def put_back_one(self, task: TaskFuture) -> None:
        """Put one task at the front of the queue."""
        with self.lock:
            self.put_back((task,))

    def put_last(self, task: TaskFuture) -> None:
        """A slice of a map() has had its turn, and is not done: others come first."""
        task._slot = None
        unmark(task)
        if not task.done():
            self.queue.append(task)

    def drop(self, task: TaskFuture) -> None:
        """A task was cancelled: it does not start, or is ended."""
        self.note_cancelled()
        slot = task._slot
        if slot is not None:
            self.stop(slot, task)

    def note_cancelled(self) -> None:
        """A task was cancelled that has not begun, or nobody waits for what it gives."""
        self.counts["cancelled"] += 1

    def stop(self, slot: Slot, task: TaskFuture, first: str = "ask") -> None:
        """Nobody waits for this task any longer: have it not start, or end it, and never its neighbour. First all that
        is behind it is taken back; only then may its process be hurt."""
        if slot.dead or slot.tasks.get(task._number) is not task:
            return
        with self.lock:
            self.put_back(slot.take_back())
        if slot.tasks.get(task._number) is not task:
            self.touched.add(slot)  # it was not begun with, and it may be that nothing else was
        elif slot.get_running() == task._number:
            self.kill_runner(slot, task, first)
        else:
            self.undecided.append((slot, task, first))

    def kill_runner(self, slot: Slot, task: TaskFuture, first: str) -> None:
        """End the process that runs a task, for that task."""
        if not slot.forks:
            self.kill(slot, first)
        elif slot.killing is None:
            found = slot.open_runner()
            if found is None:
                self.undecided.append((slot, task, first))  # it is not there yet; or no longer, and we shall hear of it
                return
            slot.page.words[ENDED_FOR] = task._number
            slot.killing = Killing(found[0], found[1].fileno(), first, task._number, found[1])

    def kill(self, slot: Slot, first: str = "ask") -> None:
        """End a worker. It is handed nothing more, and what it was handed is taken back."""
        if slot.dead or slot.child is None:
            return
        if slot.forks and not slot.leaving:
            slot.killing = None  # of its task: it goes with us
        slot.leaving = True
        if slot.killing is None:
            slot.page.words[ENDED_FOR] = slot.get_running()
            slot.child._sent.update((2, 9, 15))  # or the handle would say that somebody else had
            slot.killing = Killing(slot.pid, slot.child.fileno(), first)
        elif first == "kill" and slot.killing.next in ("ask", "tell"):
            slot.killing.next = "kill"
            slot.killing.step()

    def write_off(self, slot: Slot) -> None:
        """A worker does not die of SIGKILL: do without it."""
        self.unwatch(slot.pipe)
        if slot.child is not None:
            self.unwatch(slot.child.fileno())
        with self.lock:
            self.slots.remove(slot)
            self.put_back(slot.settle())
        slot.dead = True
        for task in slot.tasks.values():
            self.fail(task, WorkerDied(task.name, Lost("it does not die of SIGKILL: written off"), pid=slot.pid))
