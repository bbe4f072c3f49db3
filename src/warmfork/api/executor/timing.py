"""What happens because time has passed: limits of tasks, a long task in front of short ones, the steps of an end."""

from __future__ import annotations

from concurrent.futures._base import FINISHED
from time import monotonic

from warmfork.api.executor import results
from warmfork.api.executor.errors import QueueTimeout, TaskTimeout
from warmfork.api.executor.futures import ERROR, LOCK_PATIENCE
from warmfork.api.limits import Limits, Watch, make_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from warmfork.api.executor.dispatcher import Core
    from warmfork.api.executor.futures import TaskFuture
    from warmfork.api.executor.slots import Slot

SLOW = 0.01
"""Seconds in one task, after which what is behind it is taken back: another may be idle, or quicker."""

SOON = 0.002

LEAVE_GRACE = 5.0
"""Seconds that a worker has to leave by itself: its exit handlers run."""


class Timing:
    """What an executor's dispatcher looks at when time has passed."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.timed = False  # some task has a limit
        self.queue_limits = False  # some task may not wait for ever

    def note(self, task: TaskFuture) -> None:
        """A task with limits is about to be submitted."""
        options = task._options
        self.timed = self.timed or options.timed
        if options.queue_timeout is not None:
            self.queue_limits = True
            task._deadline = monotonic() + options.queue_timeout

    def get_due(self) -> float | None:
        """Give when to look next, by monotonic(); None: not before something happens."""
        core = self.core
        now = monotonic()
        due: list[float] = []
        if core.unpublished or core.undecided:
            due.append(now + SOON)
        for slot in core.slots:
            if slot.killing is not None:
                due.append(slot.killing.due)
            elif slot.leaving:
                due.append(now + SOON if not slot.told else (slot.left_at or now) + LEAVE_GRACE)
            elif len(slot.tasks) > 1:
                due.append(now + SLOW)
            elif slot.full and not slot.tasks:
                due.append(now + SOON)
            if self.timed and slot.tasks and slot.killing is None:
                due.append(self.find_limit(slot, now))
            old = core.recycling.get_due(slot)
            if old is not None:
                due.append(old)
        if core.queue and core.births.not_before > now and core.hungry:
            due.append(core.births.not_before)
        if self.queue_limits:
            due += [task._deadline for task in core.queue.copy() if task._deadline is not None]
            due += [task._deadline for slot in core.slots for task in slot.tasks.copy().values()
                    if task._deadline is not None and not slot.has_started(task._number)]  # fmt: skip
        return min(due) if due else None

    def find_limit(self, slot: Slot, now: float) -> float:
        """Give when a limit of what a worker does may be reached, at the earliest."""
        running = slot.get_running()
        due = now + 3600
        for number, task in slot.tasks.copy().items():
            timeout = task._options.timeout
            began = slot.get_since() if number == running else now
            if timeout is not None:
                due = min(due, began + timeout)
            if task._options.memory_limit is not None:
                due = min(due, slot.watch.due or now if slot.watch and slot.watched == number else now + SOON)
        return due

    def look(self) -> None:
        """Look at all of it."""
        core = self.core
        now = monotonic()
        if core.unpublished:
            waiting, core.unpublished = core.unpublished, []
            for until, task, state, kind, data, memory in waiting:
                if task._publish(state, kind, data, memory, LOCK_PATIENCE if now > until else 0.0) is None:
                    core.unpublished.append((until, task, state, kind, data, memory))
        if core.undecided:
            waiting_for, core.undecided = core.undecided, []
            for slot, task, first in waiting_for:
                if slot.tasks.get(task._number) is task and slot.get_running() == task._number:
                    core.kill_runner(slot, task, first)
                elif slot.tasks.get(task._number) is task and not slot.dead:
                    core.undecided.append((slot, task, first))
        for slot in list(core.slots):
            self.look_at(slot, now)
        if self.queue_limits:
            self.look_at_queue(now)

    def look_at(self, slot: Slot, now: float) -> None:
        """Look at one worker."""
        core = self.core
        if slot.killing is not None:
            if now >= slot.killing.due and slot.killing.step():
                core.write_off(slot)
            return
        if slot.leaving and not slot.told:
            core.retire(slot)
        elif slot.leaving:
            if slot.tasks or slot.left_at is None:
                slot.left_at = now
            elif now - slot.left_at >= LEAVE_GRACE:
                core.kill(slot, "tell")
            return
        core.recycling.look(slot, now)
        if slot.full and not slot.tasks:
            core.touched.add(slot)
        running = slot.get_running()
        if not running:
            return
        if len(slot.tasks) > 1 and now - slot.get_since() >= SLOW:
            with core.lock:
                slot.most = 1
                core.put_back(slot.take_back())
        if self.timed:
            self.look_at_limits(slot, running, now)

    def look_at_limits(self, slot: Slot, running: int, now: float) -> None:
        """Has the task that a worker runs reached a limit?"""
        task = slot.tasks.get(running)
        if task is None or not task._options.timed:
            return
        options = task._options
        if options.timeout is not None and now - slot.get_since() >= options.timeout:
            self.end(slot, task, TaskTimeout(task.name, options.timeout), "ask")
        elif options.memory_limit is not None and slot.child is not None:
            if slot.watch is None or slot.watched != running:
                limits = Limits(options.memory_limit, None, None, None)
                pid = slot.pid
                if slot.forks:
                    runner = slot.open_runner()
                    if runner is None:
                        return
                    pid = runner[0]
                    runner[1].close()
                slot.watch, slot.watched = Watch(pid, limits, slot.child._channel.pid), running
            found = slot.watch.look()
            if found is not None:
                self.end(slot, task, make_error(*found, None), "kill")  # type: ignore[arg-type]

    def end(self, slot: Slot, task: TaskFuture, error: Exception, first: str) -> None:
        """A task has reached a limit. What it gave in this very moment stands."""
        core = self.core
        with core.lock:
            core.put_back(slot.take_back())
        while results.read(core, slot):
            continue
        if slot.tasks.get(task._number) is not task:
            return
        task.attempts += 1
        task.pid = slot.pid
        core.counts["timed_out" if isinstance(error, TaskTimeout) else "failed"] += 1
        # For a retry the worker must forget it before it gets a new number.
        number = task._number
        if task.attempts <= task._options.retries and isinstance(error, task._options.retry_on):
            core.kill_runner(slot, task, first)
            slot.tasks.pop(number)
            core.fail(task, error)
            return
        core.fail(task, error)
        core.stop(slot, task, first)

    def look_at_queue(self, now: float) -> None:
        """Has a task waited for too long?"""
        core = self.core
        late = [task for task in core.queue.copy() if task._deadline is not None and now >= task._deadline]
        for slot in core.slots:
            waiting = [task for task in slot.tasks.copy().values() if task._deadline is not None
                       and now >= task._deadline and not slot.has_started(task._number)]  # fmt: skip
            if waiting:
                with core.lock:
                    core.put_back(slot.take_back())
                late += [task for task in waiting if task._slot is None]
        for task in late:
            if task._slot is None and not task.done():
                core.counts["timed_out"] += 1
                core.publish(task, FINISHED, ERROR, QueueTimeout(task.name, task._options.queue_timeout or 0.0))
