"""How long from start() to the first read of a large array in the child, which has it as an argument.

    python bench/payload.py -n 20

The array is numpy's, and numpy is in the template. fork is beside it as what can't be had: its child has the array
already, and shares it. Competitors take turns.
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
                        times.setdefault((worker.competitor, size), []).extend(worker.do("payload", 1, size))
                    except WorkerFailed as error:
                        failed = worker.competitor in OURS
                        result.gaps.append(Gap(SHEET, f"{size} MB: {worker.competitor}", error.args[0], failed))
                        workers.remove(worker)
                        break
    for (name, size), found in times.items():
        result.figures.append(Figure(SHEET, name, f"{size} MB", statistics.median(found) / 1e6, "ms", len(found)))


BENCH = Bench("payload", __doc__, measure, n=15, modules=MODULES)

if __name__ == "__main__":
    sys.exit(main(BENCH))
