"""A process that does nothing, started and joined 8 ms apart by a program that has started twenty before."""

from __future__ import annotations

import os
import statistics
import time

from contenders import FLOOR, SPAWN, check_exit, get_competitor, make_context, now, report, to_ms

MODULES = os.environ.get("BENCH_MODULES", "").split()
for name in MODULES:
    __import__(name)

WARM_UP, STARTS = 20, 40
APART = 0.008


def work() -> None:
    """What the child does."""


def fork_and_wait() -> None:
    """The least that a process can cost here."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert status == 0


def main() -> None:
    """Start one after the other."""
    warm_up, starts = (1, 3) if get_competitor() == SPAWN else (WARM_UP, STARTS)
    context = None if get_competitor() == FLOOR else make_context(*MODULES)
    last = []

    def start_and_join() -> None:
        process = context.Process(target=work)
        process.start()
        process.join()
        check_exit(process)
        last[:] = [process]

    act = start_and_join if context else fork_and_wait
    times = []
    for _ in range(warm_up + starts):
        time.sleep(APART)
        begin = now()
        act()
        times.append(to_ms(begin, now()))
    report({"start and join": statistics.median(times[warm_up:])}, last)


if __name__ == "__main__":
    main()
