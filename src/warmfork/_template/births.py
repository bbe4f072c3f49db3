"""Births that take too long: a child that hangs in one of its steps is ended, and its client is told in which.

Looked at once, when the time is over: births that went well cost nothing, and wake nobody.
"""

from __future__ import annotations

import os
from _collections import deque
from time import monotonic, monotonic_ns

from warmfork._child import birth
from warmfork._machine import pids
from warmfork._words import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from warmfork._template.state import TemplateState

FEED = [name for name, _ in birth.STEPS].index("feed")
"""The step in which a child waits for its client, for as long as that takes."""

LIMIT = 10.0
"""Seconds that a step may take, up to the payload, which is the user's. They take a millisecond, all together."""


class Births:
    """Those that are under way, or were not long ago."""

    def __init__(self, state: TemplateState) -> None:
        self.state = state
        self.limit = read_limit()
        self.waiting: deque[tuple[float, int, int]] = deque()  # when to look, pid, slot

    def note(self, pid: int, slot: int) -> None:
        """This child was forked, or handed over."""
        self.waiting.append((monotonic() + self.limit, pid, slot))

    def get_due(self) -> float | None:
        """Give when to look next, by monotonic(), or None."""
        while self.waiting and self.waiting[0][1] not in self.state.children:
            self.waiting.popleft()
        return self.waiting[0][0] if self.waiting else None

    def end_overdue(self) -> None:
        """Look at those whose time is over, and end those that hang."""
        now = monotonic()
        while self.waiting and self.waiting[0][0] <= now:
            _, pid, slot = self.waiting.popleft()
            known = self.state.children.get(pid)
            row = self.state.board.read_row(slot)
            if known is None or row is None or row.step == FEED or row.step >= birth.PAYLOAD:
                continue
            left = row.since_ns / 1e9 + self.limit - monotonic_ns() / 1e9
            if left > 0 or pids.is_stopped(pid):
                self.waiting.append((now + min(max(left, 0.1), self.limit), pid, slot))
                continue
            known[1].tell(messages.Stuck(pid, birth.name_step(row.step)))
            os.kill(pid, 9)  # not reaped yet, so the pid can't be another's


def read_limit() -> float:
    """Read the limit from the environment; what is no number there is as good as nothing."""
    try:
        return float(os.environ.get("WARMFORK_BIRTH_TIMEOUT") or LIMIT)
    except ValueError:
        return LIMIT
