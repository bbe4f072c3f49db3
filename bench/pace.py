"""How even starts are at a steady pace: the 99th percentile of many start()+join() over their median.

    python bench/pace.py -n 1000

8 ms lie between two starts. The floor is as uneven as the machine makes it: what is warmfork's own is above that.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from command import Bench, Tick, main
from results import BARE, NUMPY_PANDAS, TEMPLATES, Figure, Gap, Result, summarise
from rounds import PACE_NS, Worker, WorkerFailed, find_missing, open_workers

SHEET = "p99 over median of start()+join() at a steady pace"
COMPETITORS = ("floor", "warmfork", "fork")
STRETCH = 100
"""Starts in a row: a pace is no pace where others have their turn every tenth time."""


def measure(result: Result, n: int, tick: Tick) -> None:
    for template in (BARE, NUMPY_PANDAS):
        modules = TEMPLATES[template]
        if find_missing(modules):
            continue
        with open_workers(result, SHEET, COMPETITORS, modules, tick, note=f"{template}: ") as workers:
            times = take_turns(result, template, workers, n, tick)
        for name, found in times.items():
            series = summarise(template, "steady", name, found)
            if series.p99_us is not None:
                ratio = series.p99_us / series.median_us
                result.figures.append(Figure(SHEET, name, template, ratio, "x", series.n))
                result.figures.append(
                    Figure(SHEET, name, f"{template}: median", series.median_us / 1000, "ms", series.n)
                )


def take_turns(result: Result, template: str, workers: Sequence[Worker], n: int, tick: Tick) -> dict[str, list[int]]:
    times: dict[str, list[int]] = {worker.competitor: [] for worker in workers}
    for turn in range(-(-n // STRETCH)):
        for worker in workers:
            tick(f"{template}: {worker.competitor}")
            try:
                times[worker.competitor] += worker.make_starts(min(STRETCH, n - turn * STRETCH), PACE_NS)
            except WorkerFailed as error:
                result.gaps.append(Gap(SHEET, f"{template}: {worker.competitor}", error.args[0], failed=True))
                return {}
    return times


BENCH = Bench("pace", __doc__, measure, n=1000)

if __name__ == "__main__":
    sys.exit(main(BENCH))
