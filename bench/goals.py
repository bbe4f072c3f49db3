"""The speed that warmfork has to reach: each goal belongs to a row of the table of programs.

What could not be measured is "no data", never "reached".
"""

from __future__ import annotations

from dataclasses import dataclass

from contenders import FLOOR, FORK, OWN, PRELOADED
from results import Result


@dataclass(frozen=True)
class Goal:
    """Warmfork's median of a phase, divided by somebody else's in the same run, is to be at most `limit`.

    `against` is None where the phase is a ratio itself. `newer` is the limit on 3.14 and newer, whose own forkserver is
    faster; the same where there is none.
    """

    program: str
    phase: str
    against: str | None
    limit: float
    newer: float | None = None

    def get_limit(self, version: tuple[int, int]) -> float:
        """The limit on this version of Python."""
        return self.newer if self.newer is not None and version >= (3, 14) else self.limit

    def tell(self, version: tuple[int, int]) -> str:
        """The goal as the table has it."""
        return f"≤ {self.get_limit(version):g}" + (f" × {self.against}" if self.against else "")

    def measure(self, result: Result) -> float | None:
        """The ratio of this run."""
        own = result.find(self.program, self.phase, OWN)
        other = result.find(self.program, self.phase, self.against) if self.against else None
        if own is None or (self.against and other is None):
            return None
        return own.median / other.median if other else own.median

    def judge(self, result: Result) -> str:
        """Say what came of it: the ratio, and whether that is reached."""
        ratio = self.measure(result)
        if ratio is None:
            return "no data"
        return f"{ratio:.2f} {'yes' if ratio <= self.get_limit(result.version) else 'NO'}"


def list_goals() -> list[Goal]:
    """All goals."""
    start = "start and join"
    goals = [
        Goal("first-bare", start, PRELOADED, 0.7),
        Goal("first-numpy", start, PRELOADED, 0.95, 1.0),
        Goal("first-heap", start, PRELOADED, 0.6),
        Goal("template-functions", "of the script over importable, x", None, 1.5),
        Goal("late-lock", "with a Lock over no-op, x", None, 1.15),
        Goal("tree", "second tree", FORK, 2.0),
    ]
    for program in ("pool-8", "executor", "processes"):
        goals += [
            Goal(program, "first round, whole", PRELOADED, 1.0),
            Goal(program, "second round, whole", FORK, 0.8),
            Goal(program, "later round, whole", FORK, 0.55),
        ]
    for program in ("early-bare", "early-numpy"):
        goals += [
            Goal(program, "starts 2 to 11, sum", PRELOADED, 0.3, 0.55),
            Goal(program, "worst over median, x", None, 3.0),
            Goal(program, "starts 2 to 11 over ten later ones, x", None, 2.5),
        ]
    floors = {"noop-bare": 1.45, "noop-numpy": 0.23, "noop-sklearn": 0.14, "noop-heap": 0.03}
    return goals + [Goal(program, start, FLOOR, limit) for program, limit in floors.items()]


GOALS = {(goal.program, goal.phase): goal for goal in list_goals()}
