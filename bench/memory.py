"""What children and templates take: memory of 20 children that have worked, and of a template after 20,000 starts.

    python bench/memory.py -n 20000

PSS is what a process has for itself, and its part of what it shares; USS only the former. The children do a group-by and
a full garbage collection first: what a template kept from being shared shows then.
"""

from __future__ import annotations

import statistics
import sys

from command import Bench, Tick, main
from results import BARE, SKLEARN, TEMPLATES, Figure, Gap, Result
from rounds import WorkerFailed, find_missing, open_workers

CHILDREN = 20
SHARE = f"each of {CHILDREN} children, numpy+pandas+sklearn, after groupby and gc.collect()"
COMPETITORS = ("warmfork", "fork", "forkserver", "spawn")
LONG = "the template's memory, starts back to back"
SAMPLES = 10


def measure(result: Result, n: int, tick: Tick) -> None:
    measure_share(result, tick)
    measure_long(result, n, tick)


def measure_share(result: Result, tick: Tick) -> None:
    modules = TEMPLATES[SKLEARN]
    missing = find_missing(modules)
    if missing:
        result.gaps.append(Gap(SHARE, "all", f"not installed: {', '.join(missing)}", failed=False))
        return
    for name in COMPETITORS:  # one after the other: what they share with one another would count for less
        with open_workers(result, SHARE, [name], modules, tick) as workers:
            for worker in workers:
                tick(f"{CHILDREN} children of {name}")
                try:
                    found = worker.do("share", CHILDREN)
                except WorkerFailed as error:
                    result.gaps.append(Gap(SHARE, name, error.args[0], failed=True))
                    continue
                for what, sizes in (("PSS", found[:CHILDREN]), ("USS", found[CHILDREN:])):
                    size = statistics.median(sizes) * 1024 / 1e6
                    result.figures.append(Figure(SHARE, name, what, size, "MB", CHILDREN))


def measure_long(result: Result, n: int, tick: Tick) -> None:
    for name in ("warmfork",):
        with open_workers(result, LONG, [name], TEMPLATES[BARE], tick) as workers:
            for worker in workers:
                tick(f"{n} starts of {name}")
                try:
                    found = worker.do("long", n, SAMPLES)
                except WorkerFailed as error:
                    result.gaps.append(Gap(LONG, name, error.args[0], failed=True))
                    continue
                sizes, fds = [size * 1024 / 1e6 for size in found[::2]], found[1::2]
                figures = (
                    (f"after {n // SAMPLES:,}", sizes[1], "MB"),
                    (f"after {n:,}", sizes[-1], "MB"),
                    ("growth", (sizes[-1] / sizes[1] - 1) * 100, "%"),
                    ("more fds", fds[-1] - fds[1], ""),
                )
                result.figures += [Figure(LONG, name, what, value, unit, 1) for what, value, unit in figures]


BENCH = Bench("memory", __doc__, measure, n=20_000)

if __name__ == "__main__":
    sys.exit(main(BENCH))
