"""The starts 2 to 40 of a program, 8 ms apart: each started and joined before the next."""

from __future__ import annotations

import os
import statistics
import time

from contenders import check_exit, make_context, now, report, to_ms

MODULES = os.environ.get("BENCH_MODULES", "").split()
for name in MODULES:
    __import__(name)

STARTS = 40
APART = 0.008


def work() -> None:
    """What the child does."""


def main() -> None:
    """Start forty, one after the other."""
    context = make_context(*MODULES)
    times = []
    for _ in range(STARTS):
        begin = now()
        process = context.Process(target=work)
        process.start()
        process.join()
        times.append(to_ms(begin, now()))
        check_exit(process)
        time.sleep(APART)
    later = times[1:]
    report(
        {
            "starts 2 to 11, sum": sum(times[1:11]),
            "starts 2 to 40, median": statistics.median(later),
            "starts 2 to 40, worst": max(later),
            "worst over median, x": max(later) / statistics.median(later),
            "starts 2 to 11 over ten later ones, x": sum(times[1:11]) / sum(times[30:40]),
        },
        [process],
    )


if __name__ == "__main__":
    main()
