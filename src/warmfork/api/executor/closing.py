"""The end of an executor: by shutdown(), with its last reference, with the program, by a fault; and in a fork of it."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures._base import CANCELLED_AND_NOTIFIED, FINISHED
from contextlib import suppress
from copy import copy
from weakref import WeakSet

from warmfork._machine import fds
from warmfork.api.executor.errors import ExecutorBroken
from warmfork.api.executor.futures import ERROR, LOCK_PATIENCE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from warmfork.api.executor.dispatcher import Core
    from warmfork.api.executor.slots import Slot

cores: WeakSet[Core] = WeakSet()
"""All executors of this process that are not over."""


def begin(core: Core, cancel: bool = False, how: str = "") -> None:
    """Take nothing more on, and end when all is done. `cancel`: what has not begun is cancelled. `how`: what runs is ended,
    by "tell" (SIGTERM) or "kill" (SIGKILL). Called by the dispatcher."""
    core.closing = True
    if cancel or how:
        cancel_waiting(core)
    if how:
        for slot in list(core.slots):
            end_slot(core, slot, how)


def end_slot(core: Core, slot: Slot, how: str) -> None:
    """End a worker, whatever it does. What it has not begun moves on."""
    with core.lock:
        core.put_back(slot.take_back())
    core.kill(slot, how)


def cancel_waiting(core: Core) -> None:
    """Cancel all that has not begun."""
    with core.lock:
        for slot in core.slots:
            core.put_back(slot.take_back())
            core.touched.add(slot)
        tasks = [*core.in_hand, *core.queue]
        core.queue.clear()
        core.in_hand.clear()
    for task in tasks:
        core.publish(task, CANCELLED_AND_NOTIFIED, 0, None)


def look(core: Core) -> None:
    """Is all done? Then the workers are told to leave, and when they have, it is over."""
    if (
        core.queue
        or core.burying
        or any(slot.tasks for slot in core.slots)
        or core.unpublished
        or core.ended
        or core.commands
    ):
        return
    for slot in core.slots:
        if not slot.leaving:
            core.retire(slot)
    if not core.slots:
        core.over = True


def end_all(core: Core, error: BaseException) -> None:
    """A fault of our own: all futures say so, and all workers are killed. Waits for no lock."""
    core.closing = core.over = True
    for slot in core.slots:
        for task in list(slot.tasks.values()):
            task._publish(FINISHED, ERROR, error, None, LOCK_PATIENCE)
        if slot.child is not None:
            with suppress(PermissionError):  # it has become another user
                slot.child.kill()
    core.tell_ended()
    for task in [*core.in_hand, *core.queue, *(entry[1] for entry in core.unpublished)]:
        task._publish(FINISHED, ERROR, error, None, LOCK_PATIENCE)


def let_go(core: Core) -> None:
    """It is over: close all that is open. What comes now, comes too late."""
    core.over = True
    sweep(core)
    core.obey()
    for slot in core.slots:
        if slot.child is not None and not slot.dead:
            fds.wait_readable(slot.child.fileno(), 1.0)
        slot.dead = True
        slot.close()
    core.slots.clear()
    core.poller.close()
    awake, core.awake = core.awake, -1
    os.close(awake)
    core.births.shared = ()  # the initializer's: what refers to each other here waits for the collector
    cores.discard(core)
    if core.template is not None:
        core.template.stop()


def restart(core: Core, done: Callable[[], object]) -> None:
    """End all workers, and go on with others. Called by the dispatcher."""
    core.broken = None
    core.births.failures, core.births.not_before = 0, 0.0
    for slot in list(core.slots):
        end_slot(core, slot, "kill")
    done()


def sweep(core: Core) -> None:
    """Cancel what was submitted in the moment at which it was over."""
    while core.queue:
        try:
            task = core.queue.popleft()
        except IndexError:
            return
        if core.broken is not None:
            task._publish(FINISHED, ERROR, copy_error(core.broken), None, LOCK_PATIENCE)
        else:
            task._publish(CANCELLED_AND_NOTIFIED, 0, None, None, LOCK_PATIENCE)


def discard(slot: Slot) -> None:
    """A worker came when nobody wanted it any longer."""
    if slot.child is not None:
        slot.child.kill()
        slot.child.wait()
    slot.close()


def copy_error(error: BaseException) -> BaseException:
    """Give an error of its own to each future: its traceback grows with each raise."""
    try:
        return copy(error)
    except Exception:
        return ExecutorBroken(str(error))


def end_at_exit() -> None:
    """The interpreter ends: what was submitted is done first, as with the standard executors."""
    threads = []
    for core in list(cores):
        if core.pid == os.getpid():
            core.post(lambda core=core: begin(core))  # type: ignore[misc]
            threads.append(core.runner)
    for thread in threads:
        thread.join()
    logs = sys.modules.get("warmfork.api.executor.logs")  # where workers forward what they log
    if logs is not None:
        logs.wait_for_all()


def drop_after_fork() -> None:
    """In a forked copy: the workers are the original's. Its fds are closed, so that none of them outlives it here."""
    for core in list(cores):
        cores.discard(core)
        core.closing = core.over = True
        core.queue.clear()
        for slot in core.slots:
            slot.child = None  # its handle is closed with it, and belongs to a client that this copy has not
            if slot.logs is not None:
                slot.logs.drop()
                slot.logs = None
            slot.close()
        core.slots.clear()
        core.poller.close()
        awake, core.awake = core.awake, -1
        if awake >= 0:
            os.close(awake)


os.register_at_fork(after_in_child=drop_after_fork)
threading._register_atexit(end_at_exit)  # type: ignore[attr-defined]
