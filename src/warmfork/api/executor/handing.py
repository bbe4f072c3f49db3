"""The queue, and the handing out of tasks to workers, under a lock that is held for a few microseconds.

Any thread that submits may do it, so that an idle worker has its task before submit() returns; and in any line of it ^C may
come, or the garbage collector run somebody's destructor, which submits or cancels.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections import deque
from concurrent.futures._base import PENDING, RUNNING
from itertools import repeat, starmap

from warmfork._machine import sockets
from warmfork._words import work

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from warmfork.api.executor.futures import TaskFuture
    from warmfork.api.executor.slots import Slot

DEEP = 4
"""Tasks that wait for each worker, from which on several are handed out at a time."""


class Handing:
    """What is to be done, and who can do it."""

    def __init__(self, cancel_running: bool, recycle_after: int | None) -> None:
        self.cancel_running = cancel_running
        self.recycle_after = recycle_after
        self.queue: deque[TaskFuture] = deque()
        self.in_hand: list[TaskFuture] = []  # off the queue, and not yet handed to a worker: see recover()
        self.slots: list[Slot] = []  # those that live
        self.idle: list[Slot] = []
        self.handing = False  # somebody hands out; or was interrupted while he did, if nobody has the lock
        self.lock = allocate_lock()  # of the five above, and of the sending of tasks

    def hand_out(self) -> None:
        """Hand out tasks: one to each that is idle; several at a time, to all, only where many wait, for a task behind
        another may wait for long."""
        queue = self.queue
        if self.handing:
            self.recover()
        self.handing = True
        while queue:
            if len(queue) >= DEEP * len(self.slots) > 0:
                if not self.fill():
                    break
            elif self.idle:
                slot = self.idle.pop()
                slot.idle = False
                if slot.is_usable():
                    self.give(slot, 1)
            else:
                break
        self.handing = False

    def fill(self) -> bool:
        """Hand several tasks to each worker that has few. False: none took any."""
        share = max(1, len(self.queue) // (2 * len(self.slots)))
        took = False
        for slot in self.slots:
            if slot.is_usable() and slot.count_waiting() <= slot.most // 2 and self.queue:
                took = self.give(slot, min(share, slot.most)) or took
        return took

    def give(self, slot: Slot, most: int) -> bool:
        """Hand a worker up to so many tasks. False: it took none, and the queue is as it was."""
        if self.recycle_after is not None:
            most = max(1, min(most, self.recycle_after - slot.sent))
        in_hand = self.in_hand
        # In one call: what ^C leaves here, recover() finds.
        in_hand.extend(starmap(self.queue.popleft, repeat((), min(most, len(self.queue)))))
        batch: list[TaskFuture] = []
        size = taken = 0
        for task in in_hand:
            alone = task._call_memory is not None or task._start >= 0 or bool(task._shared)
            size += len(task._call) + 4
            if batch and (alone or size > work.INLINE):
                break
            taken += 1
            if task._state is PENDING:
                if not self.cancel_running:
                    task._state = RUNNING
                batch.append(task)
                if alone:
                    break
        sent = bool(batch) and slot.send(batch)
        if not sent:
            for task in batch:
                unmark(task)
        rest = in_hand[taken:] if sent or not batch else [*batch, *in_hand[taken:]]
        self.queue.extendleft(reversed(rest))
        in_hand.clear()
        if sent and slot.idle:
            slot.idle = False
            self.idle.remove(slot)
        elif not sent and not slot.tasks and not slot.idle and not slot.full:
            slot.idle = True
            self.idle.append(slot)
        if slot.sent == self.recycle_after:
            self.retire(slot)
        return sent or not batch

    def recover(self) -> None:
        """Somebody was interrupted while handing out: put back what has not found its place."""
        known = set(map(id, self.queue))
        lost = [task for task in self.in_hand if id(task) not in known and not task.done() and not is_in_hand(task)]
        self.queue.extendleft(reversed(lost))
        self.in_hand.clear()
        for slot in self.slots:
            if slot.suspect:
                slot.suspect = False
                slot.sent = max((slot.sent, *slot.tasks))
                self.put_back(slot.take_back())
        self.idle.clear()
        for slot in self.slots:
            slot.idle = slot.is_usable() and not slot.tasks
            if slot.idle:
                self.idle.append(slot)

    def put_back(self, tasks: Iterable[TaskFuture]) -> None:
        """Put tasks at the front of the queue that were handed out and never started."""
        back = [task for task in tasks if task._state is PENDING or task._state is RUNNING]
        for task in back:
            unmark(task)
        self.queue.extendleft(reversed(back))

    def retire(self, slot: Slot) -> None:
        """Have a worker end when it has done what it was handed."""
        slot.leaving = True
        if not slot.told:
            try:
                sockets.send(slot.socket, work.TASKS.pack(0, 0, work.LEAVE, 0))
            except OSError:
                return  # it is behind, and is told when it has come round; or dead
            slot.told = True


def is_in_hand(task: TaskFuture) -> bool:
    """Has a worker this task?"""
    slot = task._slot
    return slot is not None and slot.tasks.get(task._number) is task


def unmark(task: TaskFuture) -> None:
    """It is not handed out any longer."""
    if task._state is RUNNING:
        task._state = PENDING
