"""What workers say, read in bulk and entered: it is bytes here, and stays that until somebody asks a future."""

from __future__ import annotations

import os
from time import monotonic_ns

from warmfork._machine import fds, sockets, state
from warmfork._tasks import work
from warmfork._tasks.work import OUTPUT, RAISED, RESULT, SKIPPED, SPILLED, VALUE
from warmfork._words.outcome import read_status
from warmfork.api.executor import births
from warmfork.api.executor.errors import WorkerDied
from warmfork.api.executor.futures import PARTS, log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from warmfork.api.executor.dispatcher import Core
    from warmfork.api.executor.futures import TaskFuture
    from warmfork.api.executor.slots import Slot

READ = 1 << 20
HEAD = RESULT.size
KIND = (1 << work.PID_AT) - 1


def read(core: Core, slot: Slot) -> bool:
    """Read once what a worker has said. False: there is nothing, or no more."""
    try:
        data = os.read(slot.pipe, READ)
    except BlockingIOError:
        return False
    if not data:
        core.unwatch(slot.pipe)  # its death is told by its pidfd
        return False
    if slot.rest:
        data = slot.rest + data
    at, end = 0, len(data)
    tasks, unpack = slot.tasks, RESULT.unpack_from
    core.touched.add(slot)
    now, latency = monotonic_ns(), core.latency
    while at + HEAD <= end:
        number, size, kind = unpack(data, at)
        if size > work.LARGEST:
            blame(core, slot)
            return False
        after = at + HEAD + size
        if after > end:
            break
        content = data[at + HEAD : after]
        at = after
        task = tasks.get(number)
        try:
            if task is None:
                enter_other(core, slot, number, kind & KIND, content)
            elif kind == VALUE and task._start < 0:
                del tasks[number]
                slot.done += 1
                task.attempts += 1
                task.pid = slot.pid
                core.counts["done"] += 1
                latency[(now - task._born).bit_length()] += 1
                if task._call_memory is None and not task._shared:
                    task._call = b""
                else:
                    task.let_go()
                core.ended.append((task, VALUE, content, None))
            else:
                enter(core, slot, task, kind & KIND, content, kind >> work.PID_AT or slot.pid)
        except Exception:  # whatever it is that nonsense leads to
            blame(core, slot)
            return False
    slot.rest = data[at:]
    if slot.most < slot.largest:
        slot.most *= 2
    return True


def enter_other(core: Core, slot: Slot, number: int, kind: int, content: bytes) -> None:
    """A record that is of no task that we wait for: of the worker's birth, or a task that was taken back."""
    if kind == work.READY:
        slot.ready = True
        core.births.failures = 0
    elif kind == work.ENDED:
        slot.forget_killing(number)
    elif kind == work.WORN:
        core.recycling.take_word(slot, content)
    elif kind == work.FAILED:
        slot.failure = content
    elif kind & SPILLED:
        take_memory(slot).close()


def enter(core: Core, slot: Slot, task: TaskFuture, kind: int, content: bytes, pid: int) -> None:
    """A record that is more than a small value."""
    if kind & OUTPUT:
        (size,) = work.SIZE.unpack_from(content)
        task.output = content[work.SIZE.size : work.SIZE.size + size].decode("utf-8", "replace")
        content = content[work.SIZE.size + size :]
    bare = kind & ~(OUTPUT | SPILLED)
    if bare == SKIPPED:
        del slot.tasks[task._number]
        task._slot = None
        core.put_back_one(task)
        return
    if bare == work.ENDED:
        end(core, slot, task, content, pid)
        return
    memory = take_memory(slot) if kind & SPILLED else None
    front = b""
    if task._start >= 0 and bare in (VALUE, work.PARTIAL):
        front, content = content[: work.PROGRESS.size], content[work.PROGRESS.size :]
    data: Any = work.MEMORY.unpack(content) if memory is not None else content
    if bare == RAISED:
        work.unpack_error(content)  # or it is nonsense
    del slot.tasks[task._number]
    slot.done += 1
    if front:
        task.parts.append((data, memory))
        if bare == work.PARTIAL:
            (task._start,) = work.PROGRESS.unpack(front)
            core.put_last(task)
            return
        data, memory, bare = task.parts, None, PARTS
    task.attempts += 1
    task.pid = pid
    if bare == RAISED and may_retry(core, task, content if memory is None else b""):
        return
    core.counts["done" if bare in (VALUE, PARTS) else "failed"] += 1
    core.latency[(monotonic_ns() - task._born).bit_length()] += 1
    core.ended.append((task, bare, data, memory))
    task.let_go()


def end(core: Core, slot: Slot, task: TaskFuture, content: bytes, pid: int) -> None:
    """The process of a task is dead, and gave nothing."""
    status, stack = work.unpack_end(content)
    slot.forget_killing(task._number)
    del slot.tasks[task._number]
    task.attempts += 1
    task.pid = pid
    core.counts["died"] += not task.done()
    outcome = read_status(status, stack)
    core.fail(task, WorkerDied(task.name, outcome, stack, births.read_output(slot), pid))
    if slot.output >= 0:
        os.ftruncate(slot.output, 0)


def may_retry(core: Core, task: TaskFuture, content: bytes) -> bool:
    """Is a task that raised to be tried again? Its exception is judged by the names of its classes."""
    options = task._options
    if task.attempts > options.retries or not content or task.done():
        return False
    names, _, _ = work.unpack_error(content)
    if options.retry_names.isdisjoint(names):
        return False
    core.counts["retried"] += 1
    task._slot = None
    core.put_back_one(task)
    return True


def take_memory(slot: Slot) -> fds.Fd:
    """Take the memfd that was sent before this record. Raises OSError where it did not arrive."""
    while True:
        try:
            with sockets.receive(slot.socket) as got:
                if not got.fds:
                    raise OSError("an fd that a worker sent did not arrive: raise the limit of open files (ulimit -n)")
                return fds.Fd(state.move_high(got.fds.pop(0)))
        except ConnectionResetError:
            continue  # it died with tasks unread, which is said first; what it has sent comes after


def blame(core: Core, slot: Slot) -> None:
    """What a worker has said can't be read: a task has written to our pipe, or closed it. It costs the worker."""
    log().exception("worker %d said what can't be read, and is ended", slot.pid)
    slot.rest = b""
    core.unwatch(slot.pipe)
    core.kill(slot, "kill")


def drain(core: Core, slot: Slot) -> None:
    """Read all that a dead worker has said."""
    while slot.pipe in core.handlers and read(core, slot):
        continue
    slot.rest = b""
