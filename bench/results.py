"""What a run of the benchmark found: plain values that become JSON and come back from it."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Measure:
    """All values of one phase of a program by one contender, in ms, or in the unit after the comma in its name."""

    program: str
    phase: str
    contender: str
    values: list[float]

    @property
    def least(self) -> float:
        """The least of the values."""
        return min(self.values)

    @property
    def median(self) -> float:
        """Their median."""
        return statistics.median(self.values)


@dataclass(frozen=True)
class Gap:
    """Something that was not measured, and why. `failed`: warmfork was tried and did not work."""

    program: str
    contender: str
    why: str
    failed: bool


@dataclass
class Result:
    """One run, on one interpreter. `loads` are the machine's load averages at the beginning of each round."""

    machine: dict[str, Any]
    rounds: int
    measures: list[Measure] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)

    def find(self, program: str, phase: str, contender: str) -> Measure | None:
        """What was measured of this, if it was."""
        wanted = (program, phase, contender)
        return next((one for one in self.measures if (one.program, one.phase, one.contender) == wanted), None)

    def list_rows(self) -> list[tuple[str, str]]:
        """The programs and phases that were measured, in order."""
        return list(dict.fromkeys((one.program, one.phase) for one in self.measures))

    def list_contenders(self) -> list[str]:
        """Who was measured, in the order of the rounds."""
        return list(dict.fromkeys(one.contender for one in self.measures))

    @property
    def version(self) -> tuple[int, int]:
        """The Python that ran it."""
        major, minor, *_ = str(self.machine["python"]).split(".")
        return int(major), int(minor)

    def to_json(self) -> dict[str, Any]:
        """The same as plain values; least and median are told too, for those who read the file."""
        told = asdict(self)
        for one, measure in zip(told["measures"], self.measures, strict=True):
            one["values"] = [round(value, 4) for value in measure.values]
            one |= {"least": round(measure.least, 4), "median": round(measure.median, 4)}
        return told

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Result:
        """Read what to_json() gave."""
        measures = [Measure(one["program"], one["phase"], one["contender"], one["values"]) for one in data["measures"]]
        return cls(data["machine"], data["rounds"], measures, [Gap(**one) for one in data["gaps"]], data["loads"])
