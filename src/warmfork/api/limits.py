"""Limits that hold: what a child may use, how that is watched from outside, and the error that names what was reached.

Nothing here believes the child: memory, processor time and the clock are what the kernel and this process say.
"""

from __future__ import annotations

import os
from time import monotonic

from warmfork._tasks import tree
from warmfork._words.errors import WarmforkError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Literal, TypeAlias

    from warmfork.api.completed import Completed

    Limit: TypeAlias = Literal["memory", "cpu", "output", "time"]
    Reached: TypeAlias = tuple[Limit, float, float]

UNITS = {"memory": "bytes", "output": "bytes", "cpu": "s", "time": "s"}


class LimitExceeded(WarmforkError):
    """A child was ended, with all that it had started, since it reached a limit: "memory" (bytes), "cpu" (seconds),
    "output" (bytes) or "time" (seconds; then it is a TimeoutError too).

    `value` is the limit, `seen` what was there. `completed` has the output so far, how long it ran and how it ended.
    """

    def __init__(self, limit: Limit, value: float, seen: float, completed: Completed[Any] | None = None) -> None:
        super().__init__(limit, value, seen, completed)
        self.limit: Limit = limit
        self.value: float = value
        self.seen: float = seen
        self.completed: Completed[Any] | None = completed

    def __str__(self) -> str:
        unit = UNITS.get(self.limit, "")
        return (
            f"the {self.limit} limit of {self.value:,} {unit} was reached (seen: {self.seen:,.6g} {unit}); it was ended"
        )


class TimeLimitExceeded(LimitExceeded, TimeoutError):
    """It ran for longer than its `timeout`."""


def make_error(limit: Limit, value: float, seen: float, completed: Completed[Any]) -> LimitExceeded:
    """Make the error for a limit that was reached."""
    kind = TimeLimitExceeded if limit == "time" else LimitExceeded
    return kind(limit, value, seen, completed)


FASTEST = 5e9
"""Bytes a second: no process fills its memory faster, so this says when to look next. (It may, with several threads and
huge pages; what it has then above the limit is in `seen`.)"""

SOONEST, LATEST = 0.005, 0.1
"""Seconds between two looks, near a limit and far from it."""


class Limits:
    """What a child may use. None: as much as it likes."""

    __slots__ = ("cpu", "memory", "output", "time")

    def __init__(self, memory: int | None, cpu: float | None, output: int | None, time: float | None) -> None:
        for name, value in (("memory_limit", memory), ("cpu_limit", cpu), ("output_limit", output), ("timeout", time)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
                raise TypeError(f"{name} is a number, or None, not {value!r}")
            if value is not None and not value >= 0:
                raise ValueError(f"{name} can't be {value!r}")
        self.memory, self.cpu, self.output, self.time = memory, cpu, output, time


NONE = Limits(None, None, None, None)


class Watch:
    """A look at one child and all below it, now and then, more often as it nears a limit."""

    def __init__(self, pid: int, limits: Limits, template: int) -> None:
        self.pid = pid
        self.limits = limits
        # A child begins with what its template holds, which is not its own doing.
        self.base = tree.get_held(template) if limits.memory is not None else 0
        self.used_before = 0.0
        self.began = monotonic()
        self.due: float | None = self.began + SOONEST if limits.memory is not None or limits.cpu is not None else None
        self.deadline = None if limits.time is None else self.began + limits.time

    def begin(self, limits: Limits) -> None:
        """Watch the next snippet of the same process: what it has used before does not count, what it holds does."""
        self.limits = limits
        if limits.cpu is not None:
            self.used_before = self.count_cpu()
        self.began = monotonic()
        self.due = self.began + SOONEST if limits.memory is not None or limits.cpu is not None else None
        self.deadline = None if limits.time is None else self.began + limits.time

    def get_due(self) -> float | None:
        """Give when to look next, by monotonic()."""
        if self.due is None or self.deadline is None:
            return self.due if self.deadline is None else self.deadline
        return min(self.due, self.deadline)

    def look(self) -> Reached | None:
        """Look, if it is time to. Gives the limit that was reached: its name, its value, and what is there."""
        now = monotonic()
        if self.due is not None and now >= self.due:
            found, wait = self.measure()
            if found is not None:
                return found
            self.due = monotonic() + wait
        if self.limits.time is not None and self.deadline is not None and now >= self.deadline:
            return "time", self.limits.time, now - self.began
        return None

    def measure(self) -> tuple[Reached | None, float]:
        """Measure what is limited, and give when to look again, in seconds."""
        wait = LATEST
        limits = self.limits
        if limits.memory is not None:
            # Of each process by itself: what two share through a fork is in the sum of both.
            processes = [self.pid, *tree.list_descendants(self.pid)]
            held = max(max(0, tree.get_held(pid) - self.base) for pid in processes)
            if held > limits.memory:
                return ("memory", limits.memory, held), 0
            wait = min(wait, (limits.memory - held) / FASTEST)
        if limits.cpu is not None:
            used = self.count_cpu() - self.used_before
            if used >= limits.cpu:
                return ("cpu", limits.cpu, used), 0
            wait = min(wait, (limits.cpu - used) / (os.cpu_count() or 1))
        return None, max(SOONEST, wait)

    def count_cpu(self) -> float:
        """Give the processor time of the whole tree."""
        return tree.get_cpu(self.pid) + sum(map(tree.get_cpu, tree.list_descendants(self.pid)))


def read_rlimits(rlimits: Mapping[str, int | tuple[int, int]] | None) -> dict[int, tuple[int, int]]:
    """Give limits of the kernel's by number. Raises ValueError for a name that there is none of, or that would do nothing,
    or harm."""
    import resource

    found = {}
    for name, value in (rlimits or {}).items():
        number = getattr(resource, f"RLIMIT_{name.upper()}", None)
        if number is None:
            known = sorted(one[7:].lower() for one in dir(resource) if one.startswith("RLIMIT_"))
            raise ValueError(f"rlimits: there is no {name!r}, but {', '.join(known)}")
        if name.lower() == "nproc":
            raise ValueError(
                "rlimits: nproc counts all processes of the user, not the child's, and is not heeded for root: use "
                "timeout= and cpu_limit=, which end the whole tree, or a cgroup's pids.max"
            )
        soft, hard = value if isinstance(value, tuple) else (value, value)
        found[int(number)] = int(soft), int(hard)
    return found
