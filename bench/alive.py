"""What a start takes while 2,000 processes live, beside 10; and the fds that a living child takes in client and template.

    python bench/alive.py -n 300

The children that live wait for a signal. The floor is a bare fork, exit and wait of a process with as many children. One
competitor after the other: 2,000 processes are enough for the machine.
"""

from __future__ import annotations

import statistics
import sys

from command import Bench, Tick, main
from results import BARE, TEMPLATES, Figure, Gap, Result
from rounds import PACE_NS, WorkerFailed, open_workers

FEW, MANY = 10, 2000
SHEET = f"start()+join() with {FEW} and with {MANY:,} processes alive"
COMPETITORS = ("floor", "warmfork", "warmfork, no spares", "forkserver")
OURS = ("floor", "warmfork", "warmfork, no spares")


def measure(result: Result, n: int, tick: Tick) -> None:
    for name in COMPETITORS:
        with open_workers(result, SHEET, [name], TEMPLATES[BARE], tick) as workers:
            for worker in workers:
                try:
                    tick(f"{name}, {FEW} alive")
                    few, *few_fds = split(worker.do("alive", FEW, n, PACE_NS))
                    tick(f"{name}, {MANY:,} alive")
                    many, *many_fds = split(worker.do("alive", MANY, n, PACE_NS))
                    worker.do("alive", 0, 0, 0)
                except WorkerFailed as error:
                    result.gaps.append(Gap(SHEET, name, error.args[0], failed=name in OURS))
                    continue
                figures = [
                    (f"{FEW} alive", few, "ms", n),
                    (f"{MANY:,} alive", many, "ms", n),
                    ("ratio", many / few, "x", n),
                ]
                for what, before, after in zip(("client", "template"), few_fds, many_fds, strict=True):
                    if before >= 0:
                        each = round((after - before) / (MANY - FEW), 2)
                        figures.append((f"fds of each in the {what}", each, "", MANY - FEW))
                result.figures += [
                    Figure(SHEET, name, what, value, unit, count) for what, value, unit, count in figures
                ]


def split(numbers: list[int]) -> tuple[float, int, int]:
    """The median in ms, and the fds of client and template."""
    client, template, *times = numbers
    return statistics.median(times) / 1e6, client, template


BENCH = Bench("alive", __doc__, measure, n=200, modules=())

if __name__ == "__main__":
    sys.exit(main(BENCH))
