"""How many starts a second, sustained, on numpy+pandas: as fast as one, two and four threads can.

    python bench/rate.py -n 5

Each round gives every competitor one second with each number of threads; the median of n rounds counts. The floor's own
rate is that of its loop in one thread; two are shown beside it, since a fork holds the interpreter, and a wait does not.
"""

from __future__ import annotations

import statistics
import sys

from command import Bench, Tick, main
from results import NUMPY_PANDAS, TEMPLATES, Figure, Gap, Result
from rounds import WorkerFailed, find_missing, open_workers

SHEET = "starts a second, numpy+pandas"
COMPETITORS = ("floor", "warmfork", "warmfork, no spares", "fork", "forkserver")
OURS = ("floor", "warmfork", "warmfork, no spares")
"""If these fail, the bench has failed. The stdlib's forkserver of 3.13 does so: where several threads start and join, it
now and then says of a child that ended with 0 that it ended with 255."""

THREADS = (1, 2, 4)
MILLISECONDS = 1000


def name_threads(threads: int) -> str:
    return f"{threads} thread{'s' if threads > 1 else ''}"


def measure(result: Result, n: int, tick: Tick) -> None:
    modules = TEMPLATES[NUMPY_PANDAS]
    missing = find_missing(modules)
    if missing:
        result.gaps.append(Gap(SHEET, "all", f"not installed: {', '.join(missing)}", failed=False))
        return
    rates: dict[tuple[str, int], list[float]] = {}
    with open_workers(result, SHEET, COMPETITORS, modules, tick) as workers:
        for _ in range(n):
            for worker in list(workers):
                for threads in THREADS:
                    tick(f"{worker.competitor}, {name_threads(threads)}")
                    try:
                        count, taken = worker.do("rate", threads, MILLISECONDS)
                    except WorkerFailed as error:
                        why = f"with {name_threads(threads)} it {error.args[0]}"
                        result.gaps.append(Gap(SHEET, worker.competitor, why, failed=worker.competitor in OURS))
                        workers.remove(worker)
                        break
                    rates.setdefault((worker.competitor, threads), []).append(count * 1e9 / taken)
    for (name, threads), found in rates.items():
        value = statistics.median(found)
        result.figures.append(Figure(SHEET, name, name_threads(threads), value, "1/s", len(found)))


BENCH = Bench("rate", __doc__, measure, n=5)

if __name__ == "__main__":
    sys.exit(main(BENCH))
