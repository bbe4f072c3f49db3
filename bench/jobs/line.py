"""The times from just before start() to the first line of the user's function, in ns: "line COUNT GAP_NS"."""

from __future__ import annotations

import os
import tempfile
import time


def run(wakeup, count: int, gap_ns: int) -> list[int]:  # type: ignore[no-untyped-def]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "said")
        return [measure(wakeup, path, gap_ns) for _ in range(count)]


def measure(wakeup, path: str, gap_ns: int) -> int:  # type: ignore[no-untyped-def]
    """perf_counter is the machine's monotonic clock: the child reads the same one."""
    time.sleep(gap_ns / 1e9)
    process = wakeup.context.Process(target=wakeup.tell, args=(path,))
    before = time.perf_counter_ns()
    process.start()
    process.join()
    if process.exitcode != 0:
        raise ChildProcessError(f"a child that was to say when its first line ran exited with {process.exitcode}")
    with open(path) as file:
        return int(file.read()) - before
