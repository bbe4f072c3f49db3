"""A ProcessPoolExecutor of 8: from its making to the first result, to the last, and to its end; in several rounds."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor, as_completed

import numpy
import pandas
from contenders import LOKY, get_competitor, make_context, make_rounds, now, report, to_ms

MODULES = "numpy", "pandas", "concurrent.futures.process"
WORKERS = 8


def work(number: int) -> int:
    """What a worker does with a task."""
    return int(pandas.Series(numpy.arange(number)).sum())


def main() -> None:
    """Make an executor, have it work, end it; again and again."""
    kind, options = ProcessPoolExecutor, {}
    if get_competitor() == LOKY:
        import loky

        kind = loky.ProcessPoolExecutor
    else:
        options = {"mp_context": make_context(*MODULES)}
    workers = []

    def play() -> dict[str, float]:
        begin = now()
        with kind(WORKERS, **options) as executor:
            futures = [executor.submit(work, number) for number in range(2 * WORKERS)]
            workers[:] = executor._processes.values()
            results = as_completed(futures)
            next(results).result()
            first = now()
            found = [future.result() for future in futures]
            last = now()
        end = now()
        assert len(found) == 2 * WORKERS
        return {"first result": to_ms(begin, first), "last result": to_ms(begin, last), "whole": to_ms(begin, end)}

    report(make_rounds(play), workers)


if __name__ == "__main__":
    main()
