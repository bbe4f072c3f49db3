"""The memory of each worker of a Pool(8) that has done three rounds of pandas work, while all of them live.

PSS is what a process has for itself and its part of what it shares; USS only the former.
"""

from __future__ import annotations

import gc
import statistics
from multiprocessing import pool, synchronize
from typing import Any

import numpy
import pandas
from contenders import make_context, report

MODULES = "numpy", "pandas", pool.__name__, synchronize.__name__
WORKERS, ROUNDS = 8, 3
barrier: Any = None


def take_barrier(given: Any) -> None:
    """What a worker does first: it keeps the barrier that all of them share."""
    global barrier
    barrier = given


def work(seed: int) -> None:
    """Group, merge, sort, and collect garbage. Each worker has one task of a round: it waits for the others."""
    numbers = numpy.random.default_rng(seed)
    frame = pandas.DataFrame({"key": numbers.integers(0, 100, 20_000), "value": numbers.random(20_000)})
    sums = frame.groupby("key").sum().reset_index()
    merged = frame.merge(sums, on="key", suffixes=("", "_sum")).sort_values("value_sum")
    assert len(merged) == len(frame)
    del frame, sums, merged
    gc.collect()
    barrier.wait(60)


def read_sizes(pid: int) -> tuple[float, float]:
    """PSS and USS of a process, in MB."""
    sizes = {}
    with open(f"/proc/{pid}/smaps_rollup") as file:
        for line in file.readlines()[1:]:
            name, number, *_ = line.split()
            sizes[name] = int(number) * 1024 / 1e6
    return sizes["Pss:"], sizes["Private_Clean:"] + sizes["Private_Dirty:"]


def main() -> None:
    """Have all workers work, and look at them."""
    context = make_context(*MODULES)
    with context.Pool(WORKERS, take_barrier, (context.Barrier(WORKERS),)) as workers:
        for number in range(ROUNDS):
            workers.map(work, range(number * WORKERS, (number + 1) * WORKERS), chunksize=1)
        sizes = [read_sizes(worker.pid) for worker in workers._pool]
        pss, uss = (statistics.median(some) for some in zip(*sizes, strict=True))
        report({"PSS of a worker, MB": pss, "USS of a worker, MB": uss}, workers._pool)
    workers.join()


if __name__ == "__main__":
    main()
