"""joblib's Parallel over a list, 4 jobs; twice, as loops over models are."""

from __future__ import annotations

import os

import joblib
import numpy
from contenders import LOKY, get_competitor, now, report, to_ms, use_as_forkserver


def work(number: int) -> float:
    """What is done with each of the list."""
    return float(numpy.linalg.norm(numpy.arange(number * 1000)))


def main() -> None:
    """Go over the list twice."""
    backend = LOKY
    if get_competitor() != LOKY:
        os.environ["JOBLIB_START_METHOD"] = use_as_forkserver("joblib", "numpy", "joblib.pool", "multiprocessing.pool")
        backend = "multiprocessing"
    stamps = [now()]
    for _ in range(2):
        found = joblib.Parallel(n_jobs=4, backend=backend)(joblib.delayed(work)(number) for number in range(1, 41))
        stamps.append(now())
        assert len(found) == 40
    report({"first list": to_ms(*stamps[:2]), "second list": to_ms(*stamps[1:])})


if __name__ == "__main__":
    main()
