"""Workers are started here, in a thread that lives for as long as that takes: a template may take seconds to come up, and
the dispatcher must not wait for it. How one ended is asked here too."""

from __future__ import annotations

import os
from _thread import start_new_thread
from functools import partial
from time import monotonic

from warmfork._client import starting
from warmfork._client.client import get_client
from warmfork._client.feeding import Payload, StartRequest
from warmfork._machine import fds, pids
from warmfork._tasks import tree, work
from warmfork._tasks.work import OWNER
from warmfork._words import messages
from warmfork._words.errors import AuditError, PreloadError, Refused, WarmforkError
from warmfork._words.outcome import Lost
from warmfork.api.birthplace import get_here
from warmfork.api.executor.errors import ExecutorBroken, InitializerError
from warmfork.api.executor.page import Page
from warmfork.api.executor.slots import Slot
from warmfork.api.options import flush_streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event
    from typing import Any

    Beginning = tuple[bytes, tuple[Any, ...]]
    """What a worker begins with: the pickle of the initializer, and the shared memory that that refers to."""

    from warmfork.api.executor.dispatcher import Core
    from warmfork.api.template import Template

WORKER, FORKER = "warmfork._tasks.worker:run", "warmfork._tasks.forker:run"

PAUSES = (0.1, 1.0, 5.0)
"""Seconds after each birth that failed until the next is tried; then it is given up, until restart()."""

FINAL = (PreloadError, AuditError, Refused)
"""What another try would not change."""


class Births:
    """The births of an executor's workers. All but bear() is the dispatcher's."""

    def __init__(
        self, core: Core, template: Template, name: str, begin: Beginning, captured: bool, forwards: bool
    ) -> None:
        self.core = core
        self.template = template
        self.name = name
        self.initializer, self.shared = begin
        self.captured = captured
        self.forwards = forwards  # log records
        self.under_way = 0
        self.failures = 0  # in a row; those that were under way when one failed are not counted again
        self.failed_at = 0.0
        self.not_before = 0.0
        self.count = 0
        self.warming: list[tuple[int, Event]] = []  # who waits for so many workers

    def warm(self, count: int, ready: Event) -> None:
        """Have so many workers, and tell when they are ready, or when there can be none."""
        self.warming.append((count, ready))

    def plan(self) -> None:
        """Start workers where all are busy and more waits, or somebody wants so many."""
        core = self.core
        if self.warming:
            able = sum(slot.ready and not slot.is_ending() for slot in core.slots)
            for entry in list(self.warming):
                if able >= entry[0] or core.broken is not None or core.closing:
                    self.warming.remove(entry)
                    entry[1].set()
        # One that leaves by itself has its successor at once; one that is being ended keeps its place until it is dead.
        staying = sum(not slot.leaving or slot.killing is not None for slot in core.slots)
        missing = core.workers - staying - self.under_way
        core.hungry = missing > 0
        if missing <= 0 or core.broken is not None or monotonic() < self.not_before:
            return
        coming = self.under_way + sum(not slot.ready for slot in core.slots)
        able = sum(not slot.is_ending() for slot in core.slots) + self.under_way
        wanted = len(core.queue) - coming if not core.idle else 0
        wanted = min(missing, max(wanted, max((count for count, _ in self.warming), default=0) - able))
        if self.failures:
            wanted = min(wanted, 1 - coming)  # one tries whether it goes by now
        if wanted > 0:
            self.start(wanted)
            core.hungry = missing > wanted

    def start(self, count: int) -> None:
        """Have so many workers started."""
        self.under_way += count
        run_aside(partial(self.bear, count))

    def bear(self, count: int) -> None:
        """Start workers, one after the other, and hand each over. In a thread of its own."""
        for done in range(count):
            if self.core.over:
                return
            began = monotonic()
            try:
                slot = self.bear_one()
            except BaseException as error:
                self.core.post(partial(self.core.take_failure, count - done, began, error))
                return
            self.core.post(partial(self.core.take_slot, slot))

    def bear_one(self) -> Slot:
        """Start a worker. Raises what Template.start() raises."""
        slot = Slot(Page(), self.core.forks)
        try:
            if self.captured:
                slot.capture()
            self.count += 1
            name = f"{self.name}-{self.count}"
            level = self.read_logs(slot, name) if self.forwards else 0
            entry = FORKER if self.core.forks else WORKER
            kill = (self.template._options.orphans or "kill") == "kill"
            order = StartRequest(entry, name, kill, False, None, -1, get_here())
            order.own_path = self.template._birthplace.python is not None
            payload = work.pack_settings(
                {
                    "captured": self.captured,
                    "log_level": level,
                    "most_held": self.core.recycling.most_bytes or 0,
                },
                self.initializer,
            )
            self.template._refresh()
            fds.fill_standard_streams()
            flush_streams()
            try:
                slot.child = starting.start(
                    get_client(),
                    self.template._get_spec(),
                    order,
                    lambda: Payload([payload], [one.fileno() for one in (*slot.theirs, *self.shared)], None, (), False),
                    self.template._options.start_timeout,
                )
            except WarmforkError:
                self.template._forget_spec()
                raise
        except BaseException:
            slot.close()
            raise
        slot.let_go()
        slot.pid = slot.page.words[OWNER] = slot.child.pid
        return slot

    def read_logs(self, slot: Slot, name: str) -> int:
        """Have a thread read the log records of a worker to be. Gives the level from which on it is to send them."""
        from warmfork.api.executor import logs

        slot.logs = logs.Logs(name, self)
        slot.theirs.append(slot.logs.theirs)
        return logs.find_level()

    def note_failure(self, began: float) -> bool:
        """A birth that began then came to nothing. True: it is to be given up."""
        if began >= self.failed_at:
            self.failures += 1
            self.failed_at = monotonic()
            given_up = self.failures > len(PAUSES)
            self.not_before = self.failed_at + (3600 if given_up else PAUSES[self.failures - 1])
            return given_up
        return False

    def explain(self, slot: Slot) -> WarmforkError:
        """Say why a worker died before it was ready. Its end is known."""
        child = slot.child
        if slot.failure is not None:
            names, text, _ = work.unpack_error(slot.failure)
            return InitializerError(text.strip().rpartition("\n")[2] or names[0], text, self.failures)
        born = child._link.words[-1] if child is not None and child._link.words else None
        if isinstance(born, messages.BirthFailed):
            return ExecutorBroken(f"no worker can be started: {born.step}: {born.cause}", born.traceback)
        return ExecutorBroken(f"workers end before they can work: {child.outcome if child is not None else 'no child'}")


def bury(core: Core, slot: Slot) -> None:
    """Learn how a worker ended, and end what it has left behind. In a thread of its own, for the template may have to be
    waited for."""
    child = slot.child
    if child is None:
        return
    try:
        # Not by wait(), which logs a death by signal: here a future says it.
        outcome = child._outcome = child._learn_outcome()
        child._link.read()
        # Its daemons are the tracker's children by now, as the template is.
        fields = pids.read_stat(child._channel.pid)
        if len(fields) > 1:
            tree.end_session(int(fields[1]), child.pid)
    except (OSError, ValueError) as error:
        outcome = child._outcome = Lost(f"it can't be asked: {error}")
    core.post(partial(core.take_outcome, slot, outcome))


def run_aside(action: Callable[[], None]) -> None:
    """Run this in a thread of its own; where there can be none, here."""
    try:
        start_new_thread(action, ())
    except RuntimeError:
        action()


def read_output(slot: Slot) -> str:
    """Give the end of what a dead worker's last task has written."""
    if slot.output < 0:
        return ""
    size = os.fstat(slot.output).st_size
    return os.pread(slot.output, OUTPUT_KEPT, max(0, size - OUTPUT_KEPT)).decode("utf-8", "replace")


OUTPUT_KEPT = 65_536
