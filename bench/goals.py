"""The speed that warmfork has to reach: all goals, in one table.

A goal reads one number out of a Result and compares it with a limit. What could not be measured is "no data",
never "reached".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from results import BARE, NUMPY_PANDAS, SKLEARN, Result

NO_SPARES = "warmfork, no spares"

Measure = Callable[[Result], float | None]


@dataclass(frozen=True)
class Goal:
    """One promise: `measure` gives a number that has to be at most (or at least) `limit`."""

    what: str
    measure: Measure
    limit: float
    unit: str
    at_least: bool = False
    template: str = ""  # set where the goal belongs to warmfork's row in a template's table

    def text(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g} {self.unit}"


@dataclass(frozen=True)
class Verdict:
    """What became of a goal in one run."""

    goal: Goal
    measured: float | None

    @property
    def reached(self) -> bool | None:
        if self.measured is None:
            return None
        return self.measured >= self.goal.limit if self.goal.at_least else self.measured <= self.goal.limit

    @property
    def word(self) -> str:
        return {True: "yes", False: "NO", None: "no data"}[self.reached]

    def measured_text(self) -> str:
        return "–" if self.measured is None else f"{self.measured:.2f}"


def compare(template: str, mode: str, over: str, under: str) -> Measure:
    """The median of one competitor divided by the median of another."""

    def measure(result: Result) -> float | None:
        top, bottom = result.find(template, mode, over), result.find(template, mode, under)
        return top.median_us / bottom.median_us if top and bottom else None

    return measure


def compare_import(result: Result) -> float | None:
    added = result.find(BARE, "import", "warmfork")
    return added.median_us / 1000 if added else None


def list_goals(version: tuple[int, int]) -> list[Goal]:
    """The goals that hold on this version of Python (3.14 and later have a faster forkserver of their own)."""
    faster = {BARE: 4.0 if version <= (3, 13) else 1.7}  # on the other templates: faster at all
    goals = [
        Goal(f"no spares, {name}", compare(name, "paced", NO_SPARES, "floor"), limit, "x floor", template=name)
        for name, limit in ((BARE, 4.0), (NUMPY_PANDAS, 1.5), (SKLEARN, 1.1))
    ]
    goals += [
        Goal(
            f"{what}vs forkserver, {name}",
            compare(name, "paced", "forkserver", own),
            faster.get(name, 1.0),
            "x faster",
            at_least=True,
        )
        for what, own in (("", "warmfork"), ("no spares, ", NO_SPARES))
        for name in (BARE, NUMPY_PANDAS, SKLEARN)
    ]
    goals.append(
        Goal(
            "first start vs forkserver",
            compare(BARE, "first start", "warmfork", "forkserver"),
            0.5,
            "x its",
        )
    )
    goals.append(Goal("import warmfork adds", compare_import, 10.0, "ms"))
    return goals


def judge(result: Result) -> list[Verdict]:
    return [Verdict(goal, goal.measure(result)) for goal in list_goals(result.version)]
