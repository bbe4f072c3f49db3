"""What a run of the benchmark found: plain values that become JSON and come back from it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

BARE = "bare"
NUMPY_PANDAS = "numpy+pandas"
SKLEARN = "numpy+pandas+sklearn"
TEMPLATES: dict[str, tuple[str, ...]] = {
    BARE: (),
    NUMPY_PANDAS: ("numpy", "pandas"),
    SKLEARN: ("numpy", "pandas", "sklearn"),
}
NOT_HERE = "not importable by this Python: install it"


@dataclass(frozen=True)
class Series:
    """The times of one competitor on one template in one mode. A 99th percentile of less than 100 times is None."""

    template: str
    mode: str
    competitor: str
    n: int
    median_us: float
    p99_us: float | None
    min_us: float


@dataclass(frozen=True)
class Gap:
    """Something that was not measured, and why."""

    template: str
    competitor: str
    why: str
    failed: bool  # False: not installed here; True: it was tried and it did not work


@dataclass
class Result:
    """One run of the benchmark on one interpreter."""

    machine: dict[str, Any]
    series: list[Series] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)

    def find(self, template: str, mode: str, competitor: str) -> Series | None:
        wanted = (template, mode, competitor)
        return next((s for s in self.series if (s.template, s.mode, s.competitor) == wanted), None)

    @property
    def version(self) -> tuple[int, int]:
        major, minor, *_ = str(self.machine["python"]).split(".")
        return int(major), int(minor)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Result:
        series = [Series(**one) for one in data["series"]]
        return cls(data["machine"], series, [Gap(**one) for one in data["gaps"]])


def summarise(template: str, mode: str, competitor: str, times_ns: Sequence[int]) -> Series:
    ordered = sorted(times_ns)
    n = len(ordered)
    p99 = ordered[math.ceil(0.99 * n) - 1] / 1000 if n >= 100 else None
    return Series(template, mode, competitor, n, statistics.median(ordered) / 1000, p99, ordered[0] / 1000)
