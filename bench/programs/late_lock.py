"""A process with a Lock that was made after the first start, beside one with nothing, in turns, 8 ms apart."""

from __future__ import annotations

import statistics
import time
from typing import Any

from contenders import SPAWN, check_exit, get_competitor, make_context, now, report, to_ms

WARM_UP, STARTS = 10, 30
APART = 0.008


def work() -> None:
    """What a child without a lock does."""


def work_locked(lock: Any) -> None:
    """What a child with one does."""
    with lock:
        pass


def main() -> None:
    """Start both in turns."""
    warm_up, starts = (0, 3) if get_competitor() == SPAWN else (WARM_UP, STARTS)
    context = make_context()

    def start(target: Any, *arguments: Any) -> float:
        time.sleep(APART)
        begin = now()
        process = context.Process(target=target, args=arguments)
        process.start()
        process.join()
        taken = to_ms(begin, now())
        check_exit(process)
        started[:] = [process]
        return taken

    started: list[Any] = []
    start(work)
    lock = context.Lock()
    times = [(start(work), start(work_locked, lock)) for _ in range(warm_up + starts)]
    plain, locked = (statistics.median(some) for some in zip(*times[warm_up:], strict=True))
    report({"no-op": plain, "with a Lock": locked, "with a Lock over no-op, x": locked / plain}, started)


if __name__ == "__main__":
    main()
