"""joblib's Parallel over a list, 4 jobs; twice, as loops over models are."""

from __future__ import annotations

from typing import Any

import joblib
import joblib.pool
import numpy
from contenders import LOKY, get_competitor, make_context, now, report, to_ms

MODULES = "numpy", "joblib", "joblib.pool", "multiprocessing.pool"


def work(number: int) -> float:
    """What is done with each of the list."""
    return float(numpy.linalg.norm(numpy.arange(number * 1000)))


def main() -> None:
    """Go over the list twice."""
    # A multiprocessing context in the place of a backend's name: joblib's own pool, with the context's processes.
    backend = LOKY if get_competitor() == LOKY else make_context(*MODULES)
    workers: list[Any] = []
    stamps = [now()]
    for _ in range(2):
        with joblib.Parallel(n_jobs=4, backend=backend) as parallel:
            found = parallel(joblib.delayed(work)(number) for number in range(1, 41))
            if backend != LOKY:
                workers[:] = parallel._backend._pool._pool
        stamps.append(now())
        assert len(found) == 40
    report({"first list": to_ms(*stamps[:2]), "second list": to_ms(*stamps[1:])}, workers)


if __name__ == "__main__":
    main()
