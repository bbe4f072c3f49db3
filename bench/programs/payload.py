"""An array of 100 MB as an argument: from start() to the child's first read of it.

Seven in a row, of which the first two are not counted: a virtual machine may hand memory that nobody has used for two
seconds back to its host, and what is measured then is how fast the host gives it back.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy
from contenders import check_exit, get_size, make_context, now, report, to_ms

MEGABYTES = get_size(100)
STARTS, UNCOUNTED = 7, 2
APART = 0.02


def work(array: Any, answer: Any) -> None:
    """What the child does: it reads both ends, and says when."""
    ends = int(array[0]), int(array[-1])
    answer.send((now(), *ends))


def main() -> None:
    """Start one after the other."""
    context = make_context("numpy", "multiprocessing.connection")
    array = numpy.arange(1, MEGABYTES * 125_000 + 1)
    times = []
    for _ in range(STARTS):
        time.sleep(APART)
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(array, there))
        begin = now()
        process.start()
        read, *ends = here.recv()
        process.join()
        check_exit(process)
        assert ends == [1, len(array)]
        times.append(to_ms(begin, read))
    report({"start to first read": statistics.median(times[UNCOUNTED:])}, [process])


if __name__ == "__main__":
    main()
