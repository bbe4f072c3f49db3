"""Workers that are replaced since they are old, or hold much: between two tasks, and never in the middle of one.

What a worker holds is measured by itself, when it has ended a task: from outside that can't be told from what the next
one needs for a moment.
"""

from __future__ import annotations

from time import monotonic

from warmfork._words import work
from warmfork.api.executor.futures import log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from warmfork.api.executor.dispatcher import Core
    from warmfork.api.executor.slots import Slot

    Worn = tuple[int | None, float | None, int | None]
    """The most tasks, seconds and bytes of a worker."""


class Recycling:
    """When workers are replaced. All of it is the dispatcher's."""

    def __init__(self, core: Core, most_tasks: int | None, most_seconds: float | None, most_bytes: int | None) -> None:
        self.core = core
        self.most_tasks = most_tasks
        self.most_seconds = most_seconds
        self.most_bytes = most_bytes
        self.told = False  # one line in the log is enough: it happens again and again

    def get_due(self, slot: Slot) -> float | None:
        """Give when to look at a worker next, by monotonic()."""
        if slot.leaving or slot.killing is not None or not slot.ready:
            return None
        if slot.worn:
            return None if slot.tasks else monotonic()
        return slot.born + self.most_seconds if self.most_seconds is not None else None

    def look(self, slot: Slot, now: float) -> None:
        """Is a worker too old? One that is handed nothing more leaves when it has done what it runs."""
        core = self.core
        if slot.leaving or not slot.ready:
            return
        if self.most_seconds is not None and not slot.worn and now - slot.born >= self.most_seconds:
            self.wear_out(slot)
        if slot.worn and not slot.tasks:
            with core.lock:
                core.retire(slot)

    def take_word(self, slot: Slot, content: bytes) -> None:
        """A worker says how much it holds: too much."""
        (held,) = work.HELD.unpack(content)
        if not self.told:
            self.told = True
            log().info(
                "worker %d held %s bytes beyond its template after %d tasks, which is more than worker_max_memory=%s: it "
                "is replaced, as others will be, without a word",
                slot.pid, f"{held:,}", slot.done, f"{self.most_bytes:,}",
            )  # fmt: skip
        self.wear_out(slot)

    def wear_out(self, slot: Slot) -> None:
        """Hand a worker nothing more, and have others do what it has not begun with."""
        slot.worn = True
        with self.core.lock:
            self.core.put_back(slot.take_back())
