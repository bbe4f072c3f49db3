"""How long from start() to the first line of the user's function, where a spare is at hand.

    python bench/line.py -n 300 --json out.json

The child reads the same clock as the program. 20 ms lie between two starts, so that there is time to fork a spare.
The floor is that of bench/start.py on the bare template, a bare fork, exit and wait, and takes its turns on each
template: a slow minute of the machine is no property of a template.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence

from command import Bench, Tick, main
from results import TEMPLATES, Figure, Gap, Result
from rounds import BLOCK, Worker, WorkerFailed, find_missing, open_workers

GAP_NS = 20_000_000
SHEET = "start() to the first line of the user's function"
COMPETITORS = ("warmfork", "warmfork, no spares", "fork", "forkserver")


def measure(result: Result, n: int, tick: Tick) -> None:
    for template, modules in TEMPLATES.items():
        if find_missing(modules):
            continue
        note = f"{template}: "
        with (
            open_workers(result, SHEET, ("floor",), (), tick, note=note) as floor,
            open_workers(result, SHEET, COMPETITORS, modules, tick, note=note) as workers,
        ):
            times = take_turns(result, template, [*floor, *workers], n, tick)
        for name, found in times.items():
            value = statistics.median(found) / 1e6
            result.figures.append(Figure(SHEET, name, template, value, "ms", len(found)))


def take_turns(result: Result, template: str, workers: Sequence[Worker], n: int, tick: Tick) -> dict[str, list[int]]:
    times: dict[str, list[int]] = {worker.competitor: [] for worker in workers}
    for turn in range(-(-n // BLOCK)):
        for worker in workers:
            tick(f"{template}: {worker.competitor}")
            count = min(BLOCK, n - turn * BLOCK)
            job = "join" if worker.competitor == "floor" else "line"
            try:
                times[worker.competitor] += worker.do(job, count, GAP_NS)
            except WorkerFailed as error:
                result.gaps.append(Gap(SHEET, f"{template}: {worker.competitor}", error.args[0], failed=True))
                return {}
    return times


BENCH = Bench("line", __doc__, measure, n=100)

if __name__ == "__main__":
    sys.exit(main(BENCH))
