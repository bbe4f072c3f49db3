"""The speed that warmfork has to reach: all goals, in one table.

A goal reads one number out of a Result and compares it with a limit. What could not be measured is "no data",
never "reached".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from results import BARE, HEAP, NUMPY_PANDAS, SKLEARN, Result

OWN = "warmfork"
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
    row: tuple[str, str] = ("", "")  # template and competitor, where the goal belongs to a row of a template's table
    bench: str = "start"  # what measures it: another bench's run is not asked for it

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


def compare_figures(sheet: str, what: str, over: str, under: str) -> Measure:
    """The figure of one competitor divided by that of another."""

    def measure(result: Result) -> float | None:
        top, bottom = result.find_figure(sheet, what, over), result.find_figure(sheet, what, under)
        return top.value / bottom.value if top and bottom and bottom.value else None

    return measure


def read_figure(sheet: str, what: str, competitor: str = OWN) -> Measure:
    """The figure itself."""

    def measure(result: Result) -> float | None:
        found = result.find_figure(sheet, what, competitor)
        return found.value if found else None

    return measure


def compare_import(result: Result) -> float | None:
    added = result.find(BARE, "import", "warmfork")
    return added.median_us / 1000 if added else None


WITH_SPARES = {BARE: 1.0, NUMPY_PANDAS: 0.25, SKLEARN: 0.15, HEAP: 0.06}
WITHOUT_SPARES = {BARE: 3.0, NUMPY_PANDAS: 1.0, SKLEARN: 0.75, HEAP: 0.2}
AT_FIRST = {BARE: 4.0, NUMPY_PANDAS: 1.5, SKLEARN: 1.1}
"""What a start without spares had to reach before there were any."""


def list_goals(version: tuple[int, int]) -> list[Goal]:
    """The goals that hold on this version of Python (3.14 and later have a faster forkserver of their own)."""
    goals = [
        Goal(name, compare(name, "paced", OWN, "floor"), limit, "x floor", row=(name, OWN))
        for name, limit in WITH_SPARES.items()
    ]
    goals += [
        Goal(f"no spares, {name}", compare(name, "paced", NO_SPARES, "floor"), limit, "x floor", row=(name, NO_SPARES))
        for name, limit in WITHOUT_SPARES.items()
    ]
    goals += [
        Goal(f"no spares, {name}, at first", compare(name, "paced", NO_SPARES, "floor"), limit, "x floor")
        for name, limit in AT_FIRST.items()
    ]
    goals += [
        Goal(f"back to back, {name}", compare(name, "back to back", OWN, NO_SPARES), 1.0, "x no spares")
        for name in WITH_SPARES
    ]
    goals.append(Goal("flat: 500 MB against bare", compare_templates(HEAP, BARE, "paced"), 2.0, "x bare"))
    return goals + list_forkserver_goals(version) + list_other_goals()


def compare_templates(over: str, under: str, mode: str) -> Measure:
    """warmfork on one template against warmfork on another."""

    def measure(result: Result) -> float | None:
        top, bottom = result.find(over, mode, OWN), result.find(under, mode, OWN)
        return top.median_us / bottom.median_us if top and bottom else None

    return measure


def list_forkserver_goals(version: tuple[int, int]) -> list[Goal]:
    """What has to be reached beside the stdlib's forkserver, and before any start."""
    faster = {BARE: 4.0 if version <= (3, 13) else 1.7}  # on the other templates: faster at all
    goals = [
        Goal(
            f"{what}vs forkserver, {name}",
            compare(name, "paced", "forkserver", own),
            faster.get(name, 1.0),
            "x faster",
            at_least=True,
        )
        for what, own in (("", OWN), ("no spares, ", NO_SPARES))
        for name in (BARE, NUMPY_PANDAS, SKLEARN)
    ]
    first = compare(BARE, "first start", OWN, "forkserver")
    goals.append(Goal("first start vs forkserver", first, 0.5, "x its"))
    goals.append(Goal("first start vs an interpreter", compare_first_start, 2.5, "x python -c pass"))
    goals.append(Goal("import warmfork adds", compare_import, 10.0, "ms"))
    return goals


def compare_first_start(result: Result) -> float | None:
    """warmfork's first start against an interpreter that does nothing."""
    first, nothing = result.find(BARE, "first start", OWN), result.find(BARE, "whole program", "pass")
    return first.median_us / nothing.median_us if first and nothing else None


def list_other_goals() -> list[Goal]:
    """What the other benches measure."""
    line = "start() to the first line of the user's function"
    pace = "p99 over median of start()+join() at a steady pace"
    rate = "starts a second, numpy+pandas"
    share = "each of 20 children, numpy+pandas+sklearn, after groupby and gc.collect()"
    read = "start() to the first read of an array that is an argument"
    alive = "start()+join() with 10 and with 2,000 processes alive"
    goals = [
        Goal(f"first line, {name}", compare_figures(line, name, OWN, "floor"), 0.8, "x the bare floor", bench="line")
        for name in WITH_SPARES
    ]
    goals += [
        Goal(f"p99 over median, {name}", read_figure(pace, name), 2.0, "x", bench="pace")
        for name in (BARE, NUMPY_PANDAS)
    ]
    return [
        *goals,
        Goal("starts a second, 2 threads", compare_rate(rate), 1.1, "x floor's", at_least=True, bench="rate"),
        Goal("PSS vs forkserver", compare_figures(share, "PSS", OWN, "forkserver"), 0.35, "x its", bench="memory"),
        Goal(
            "growth of a template in 18,000 starts",
            read_figure("the template's memory, starts back to back", "growth"),
            1.0,
            "%",
            bench="memory",
        ),
        Goal(
            "100 MB array to its first read vs forkserver",
            compare_figures(read, "100 MB", "forkserver", OWN),
            12.0,
            "x faster",
            at_least=True,
            bench="payload",
        ),
        Goal("a start with 2,000 alive", read_figure(alive, "ratio"), 1.3, "x with 10 alive", bench="alive"),
        *(
            Goal(
                f"fds of each child in the {what}",
                read_figure(alive, f"fds of each in the {what}"),
                most,
                "",
                bench="alive",
            )
            for what, most in (("client", 1.0), ("template", 0.0))
        ),
    ]


def compare_rate(sheet: str) -> Measure:
    """warmfork with two threads against the floor's loop, which has one."""

    def measure(result: Result) -> float | None:
        own, floor = result.find_figure(sheet, "2 threads", OWN), result.find_figure(sheet, "1 thread", "floor")
        return own.value / floor.value if own and floor else None

    return measure


def end_if_hung(result: Result) -> list[Verdict]:
    return [Verdict(goal, goal.measure(result)) for goal in list_goals(result.version) if goal.bench in result.benches]
