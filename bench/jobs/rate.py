"""How many starts a second: "rate THREADS MILLISECONDS" has that many threads start and join for that long.

Gives the number of starts and the nanoseconds that they took.
"""

from __future__ import annotations

import threading
import time


def run(wakeup, threads: int, milliseconds: int) -> list[int]:  # type: ignore[no-untyped-def]
    counts = [0] * threads
    errors: list[BaseException] = []
    until = time.perf_counter_ns() + milliseconds * 1_000_000

    def go(number: int) -> None:
        try:
            while time.perf_counter_ns() < until and not errors:
                wakeup.start()
                counts[number] += 1
        except BaseException as error:
            errors.append(error)

    before = time.perf_counter_ns()
    if threads == 1:
        go(0)  # as a program without threads does it
    else:
        running = [threading.Thread(target=go, args=(number,)) for number in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    taken = time.perf_counter_ns() - before
    if errors:
        raise errors[0]
    return [sum(counts), taken]
