"""Eight Process objects that share a Queue and a Lock: to the first answer, the last, and their ends; several rounds."""

from __future__ import annotations

from multiprocessing import queues, synchronize
from typing import Any

import numpy
import pandas
from contenders import check_exit, make_context, make_rounds, now, report, to_ms

MODULES = "numpy", "pandas", queues.__name__, synchronize.__name__
PROCESSES = 8
TIMEOUT = 60  # where a child has died without a word


def work(number: int, lock: Any, queue: Any) -> None:
    """What a process does: work, and tell what came of it while nobody else does."""
    found = int(pandas.Series(numpy.arange(number)).sum())
    with lock:
        queue.put(found)


def main() -> None:
    """Start eight, take their answers, join them; again and again."""
    context = make_context(*MODULES)
    started = []

    def play() -> dict[str, float]:
        begin = now()
        lock, queue = context.Lock(), context.Queue()
        started[:] = [context.Process(target=work, args=(n, lock, queue)) for n in range(PROCESSES)]
        for process in started:
            process.start()
        found = [queue.get(timeout=TIMEOUT)]
        first = now()
        found += [queue.get(timeout=TIMEOUT) for _ in range(PROCESSES - 1)]
        last = now()
        for process in started:
            process.join()
            check_exit(process)
        end = now()
        queue.close()
        return {"first result": to_ms(begin, first), "last result": to_ms(begin, last), "whole": to_ms(begin, end)}

    report(make_rounds(play), started)


if __name__ == "__main__":
    main()
