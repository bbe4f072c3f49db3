"""An ordinary program: a Pool, and then a ProcessPoolExecutor, that group DataFrames. It has never heard of warmfork.

    python examples/frames.py fork
    python examples/frames.py forkserver
    warmfork run examples/frames.py forkserver       the same program on warmfork

It prints how many milliseconds each round took, from making the workers to their end.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pandas as pd

WORKERS = 4
ROUNDS = 5
PIECES = 8
ROWS = 5_000


def group(seed: int) -> float:
    """What a worker does with a piece."""
    numbers = np.random.default_rng(seed)
    frame = pd.DataFrame({"key": numbers.integers(0, 50, ROWS), "value": numbers.random(ROWS)})
    return float(frame.groupby("key")["value"].mean().sum())


def use_pool(context: multiprocessing.context.BaseContext) -> float:
    with context.Pool(WORKERS) as pool:
        total = sum(pool.map(group, range(PIECES)))
        pool.close()
        pool.join()
    return total


def use_executor(context: multiprocessing.context.BaseContext) -> float:
    with ProcessPoolExecutor(WORKERS, mp_context=context) as executor:
        return sum(executor.map(group, range(PIECES)))


def main(method: str) -> None:
    context = multiprocessing.get_context(method)
    context.set_forkserver_preload(["pandas"])  # "fork" has it loaded anyway
    for use in (use_pool, use_executor):
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            total = use(context)
            print(f"{use.__name__} {(time.perf_counter() - begun) * 1000:.1f} {total:.6f}", flush=True)
            time.sleep(0.1)


if __name__ == "__main__":
    main(sys.argv[1] if sys.argv[1:] else "forkserver")
