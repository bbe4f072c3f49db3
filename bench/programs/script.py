"""A plain script that knows nothing of warmfork: a Pool over a list, by multiprocessing's start method.

warmfork runs it by `warmfork run --preload numpy,pandas`. What is told is the time since the interpreter was started.
"""

from __future__ import annotations

import multiprocessing
import os

import numpy
import pandas
from contenders import BEGUN, get_competitor, is_own, now, report, to_ms, use_as_forkserver

WORKERS = 4


def work(number: int) -> int:
    """What a worker does with one of the list."""
    return int(pandas.Series(numpy.arange(number)).sum())


def main() -> None:
    """Go over the list."""
    method = "forkserver" if is_own() else use_as_forkserver("numpy", "pandas")
    with multiprocessing.get_context(method).Pool(WORKERS) as pool:
        workers = pool._pool  # type: ignore[attr-defined]
        found = pool.map(work, range(100))
    pool.join()
    assert len(found) == 100, get_competitor()
    report({"whole program": to_ms(float(os.environ[BEGUN]), now())}, workers)


if __name__ == "__main__":
    main()
