"""The times from just before start() to the child's first read of an array, in ns: "payload COUNT MEGABYTES"."""

from __future__ import annotations

import os
import tempfile
import time

GAP_SECONDS = 0.02
WARM_UP = 2
"""Starts in a row that are not counted: see bench/payload.py."""


def run(wakeup, count: int, megabytes: int) -> list[int]:  # type: ignore[no-untyped-def]
    import numpy

    array = numpy.arange(1, megabytes * 125_000 + 1)
    with tempfile.TemporaryDirectory() as folder:
        times = [measure(wakeup, os.path.join(folder, "said"), array) for _ in range(WARM_UP + count)]
        return times[WARM_UP:]


def measure(wakeup, path: str, array) -> int:  # type: ignore[no-untyped-def]
    time.sleep(GAP_SECONDS)
    process = wakeup.context.Process(target=wakeup.tell, args=(path, array))
    before = time.perf_counter_ns()
    process.start()
    process.join()
    if process.exitcode != 0:
        raise ChildProcessError(f"a child that was to read an array exited with {process.exitcode}")
    with open(path) as file:
        now, *ends = map(int, file.read().split())
    if ends != [1, len(array)]:
        raise ValueError(f"a child has found {ends} at the ends of its array")
    return now - before
