"""A Pool over a few tasks: from its making to the first result, to the last, and to its end; in several rounds."""

from __future__ import annotations

import numpy
import pandas
from contenders import get_size, make_context, make_rounds, now, report, to_ms

MODULES = "numpy", "pandas", "multiprocessing.pool"
WORKERS = get_size(8)


def work(number: int) -> int:
    """What a worker does with a task."""
    return int(pandas.Series(numpy.arange(number)).sum())


def main() -> None:
    """Make a pool, have it work, end it; again and again."""
    context = make_context(*MODULES)
    workers = []

    def play() -> dict[str, float]:
        begin = now()
        with context.Pool(WORKERS) as pool:
            workers[:] = pool._pool
            results = pool.imap_unordered(work, range(2 * WORKERS))
            found = [next(results)]
            first = now()
            found += results
            last = now()
        pool.join()
        end = now()
        assert len(found) == 2 * WORKERS
        return {"first result": to_ms(begin, first), "last result": to_ms(begin, last), "whole": to_ms(begin, end)}

    report(make_rounds(play), workers)


if __name__ == "__main__":
    main()
