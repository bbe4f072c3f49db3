"""The program whose starts are timed: a script with imports, functions and a main guard, as programs have them.

bench/rounds.py runs it, one process for each competitor, and says in the environment which one it is.
It is kept small since a forkserver without a preloaded `__main__` runs it again in each child.
"""

from __future__ import annotations

import os
import time

for name in os.environ["BENCH_MODULES"].split():
    __import__(name)


def noop() -> None:
    """What the child does."""


def tell(path: str, array=None) -> None:  # type: ignore[no-untyped-def]
    """Another thing for a child to do: to say when its first line ran, or when it has read both ends of an array."""
    ends = (array[0], array[-1]) if array is not None else ()
    now = time.perf_counter_ns()
    with open(path, "w") as file:
        print(now, *ends, file=file)


if __name__ == "__main__":
    import worker

    worker.serve(noop, tell)
