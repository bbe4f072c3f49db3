"""The times from just before start() to the child's first read of an array, in ns: "payload COUNT MEGABYTES"."""

from __future__ import annotations

import os
import sys
import tempfile
import time

GAP_SECONDS = 0.02


def read(path: str, array) -> None:  # type: ignore[no-untyped-def]
    """What the child does: look at both ends of what it was given, then at the clock."""
    ends = int(array[0]), int(array[-1])
    now = time.perf_counter_ns()
    if ends != (1, len(array)):
        sys.exit(f"the array has {ends} at its ends")
    with open(path, "w") as file:
        file.write(str(now))


def run(bed, count: int, megabytes: int) -> list[int]:  # type: ignore[no-untyped-def]
    import numpy

    array = numpy.arange(1, megabytes * 125_000 + 1)
    with tempfile.TemporaryDirectory() as folder:
        return [measure(bed, os.path.join(folder, "said"), array) for _ in range(count)]


def measure(bed, path: str, array) -> int:  # type: ignore[no-untyped-def]
    time.sleep(GAP_SECONDS)
    process = bed.context.Process(target=read, args=(path, array))
    before = time.perf_counter_ns()
    process.start()
    process.join()
    if process.exitcode != 0:
        raise ChildProcessError(f"a child that was to read an array exited with {process.exitcode}")
    with open(path) as file:
        return int(file.read()) - before
