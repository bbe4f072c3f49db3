"""The program whose starts are timed: a script with imports, a function and a main guard, as programs have them.

bench/rounds.py runs it, one process for each competitor, and says in the environment which one it is.
It is kept small since a forkserver without a preloaded `__main__` runs it again in each child.
"""

from __future__ import annotations

import os

for name in os.environ["BENCH_MODULES"].split():
    __import__(name)


def noop() -> None:
    """What the child does."""


if __name__ == "__main__":
    import worker

    worker.serve(noop)
