"""How long from start() to the first read of a large array in the child, which has it as an argument.

    python bench/payload.py -n 5

The array is numpy's, and numpy is in the template. fork is beside it as what can't be had: its child has the array
already, and shares it. Competitors take turns, seven starts in a row of which the first two are not counted: a virtual
machine may hand memory that nobody has used for two seconds back to its host, and what is measured at the first start
is then how fast the host gives it back (0.3 s for 100 MB where it takes 0.01 otherwise).
"""

from __future__ import annotations

import statistics
import sys

from command import Bench, Tick, main
from results import Figure, Gap, Result
from rounds import WorkerFailed, find_missing, open_workers

SHEET = "start() to the first read of an array that is an argument"
MODULES = ("numpy",)
COMPETITORS = ("warmfork", "warmfork, in band", "fork", "forkserver", "spawn")
OURS = ("warmfork", "warmfork, in band")
SIZES = (1, 10, 100)  # MB
IN_A_ROW = 5


def measure(result: Result, n: int, tick: Tick) -> None:
    if find_missing(MODULES):
        result.gaps.append(Gap(SHEET, "all", "not installed: numpy", failed=False))
        return
    times: dict[tuple[str, int], list[int]] = {}
    with open_workers(result, SHEET, COMPETITORS, MODULES, tick) as workers:
        for _ in range(n):
            for worker in list(workers):
                for size in SIZES:
                    tick(f"{size} MB: {worker.competitor}")
                    try:
                        times.setdefault((worker.competitor, size), []).extend(worker.do("payload", IN_A_ROW, size))
                    except WorkerFailed as error:
                        failed = worker.competitor in OURS
                        result.gaps.append(Gap(SHEET, f"{size} MB: {worker.competitor}", error.args[0], failed))
                        workers.remove(worker)
                        break
    for (name, size), found in times.items():
        result.figures.append(Figure(SHEET, name, f"{size} MB", statistics.median(found) / 1e6, "ms", len(found)))


BENCH = Bench("payload", __doc__, measure, n=5, modules=MODULES)

if __name__ == "__main__":
    sys.exit(main(BENCH))
