"""A Manager whose dict eight processes fill: to the manager's readiness, the last entry, and the end."""

from __future__ import annotations

from multiprocessing import managers
from typing import Any

from contenders import check_exit, make_context, now, report, to_ms

PROCESSES = 8


def work(number: int, shared: Any) -> None:
    """What a process does: it enters its number."""
    shared[number] = number


def main() -> None:
    """Make a manager, have eight processes write to its dict, end it."""
    context = make_context(managers.__name__)
    begin = now()
    with context.Manager() as manager:
        ready = now()
        shared = manager.dict()
        started = [context.Process(target=work, args=(number, shared)) for number in range(PROCESSES)]
        for process in started:
            process.start()
        for process in started:
            process.join()
            check_exit(process)
        assert len(shared) == PROCESSES
        filled = now()
    end = now()
    report({"ready": to_ms(begin, ready), "filled": to_ms(begin, filled), "whole": to_ms(begin, end)}, started)


if __name__ == "__main__":
    main()
