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
HEAP = "500 MB"
TORCH = "torch"
TEMPLATES: dict[str, tuple[str, ...]] = {
    BARE: (),
    NUMPY_PANDAS: ("numpy", "pandas"),
    SKLEARN: ("numpy", "pandas", "sklearn"),
    HEAP: ("heap",),
    TORCH: ("torch",),
}
EXTRA = (TORCH,)
"""Templates that nobody misses where they are not installed."""

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
class Figure:
    """One number that is no series of times: a rate, a size, a ratio. Figures of one `sheet` become one table, with a row
    for each competitor and a column for each `what`. The unit is "ms", "MB", "1/s", "x", "": what a reader wants."""

    sheet: str
    competitor: str
    what: str
    value: float
    unit: str
    n: int = 1  # measurements of which it is the median


@dataclass(frozen=True)
class Gap:
    """Something that was not measured, and why."""

    template: str  # or the sheet
    competitor: str
    why: str
    failed: bool  # False: not installed here; True: it was tried and it did not work


@dataclass
class Result:
    """One run of one benchmark, or of several, on one interpreter."""

    machine: dict[str, Any]
    series: list[Series] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    benches: list[str] = field(default_factory=lambda: ["start"])

    def find(self, template: str, mode: str, competitor: str) -> Series | None:
        wanted = (template, mode, competitor)
        return next((s for s in self.series if (s.template, s.mode, s.competitor) == wanted), None)

    def find_figure(self, sheet: str, what: str, competitor: str) -> Figure | None:
        wanted = (sheet, what, competitor)
        return next((f for f in self.figures if (f.sheet, f.what, f.competitor) == wanted), None)

    @property
    def version(self) -> tuple[int, int]:
        major, minor, *_ = str(self.machine["python"]).split(".")
        return int(major), int(minor)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Result:
        return cls(
            data["machine"],
            [Series(**one) for one in data["series"]],
            [Gap(**one) for one in data["gaps"]],
            [Figure(**one) for one in data.get("figures", ())],
            data.get("benches", ["start"]),
        )


def merge(results: Sequence[Result]) -> Result:
    """All that was found, as if one run had found it."""
    merged = Result(results[0].machine, benches=[])
    for result in results:
        merged.series += result.series
        merged.gaps += result.gaps
        merged.figures += result.figures
        merged.benches += result.benches
    return merged


def summarise(template: str, mode: str, competitor: str, times_ns: Sequence[int]) -> Series:
    ordered = sorted(times_ns)
    n = len(ordered)
    p99 = ordered[math.ceil(0.99 * n) - 1] / 1000 if n >= 100 else None
    return Series(template, mode, competitor, n, statistics.median(ordered) / 1000, p99, ordered[0] / 1000)
