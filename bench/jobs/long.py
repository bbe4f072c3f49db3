"""What a template takes after many starts: "long COUNT SAMPLES" starts and joins, and looks from time to time.

Gives the template's resident memory in KiB and its number of fds, in turns: after the warm-up, and SAMPLES times.
"""

from __future__ import annotations

import os
import time

REST_SECONDS = 0.2
"""Before each look: what a template does when idle is done then, and its spares are forked."""


def run(wakeup, count: int, samples: int) -> list[int]:  # type: ignore[no-untyped-def]
    found = look(wakeup)
    for _ in range(samples):
        for _ in range(count // samples):
            wakeup.start()
        found += look(wakeup)
    return found


def look(wakeup) -> list[int]:  # type: ignore[no-untyped-def]
    time.sleep(REST_SECONDS)
    pid = wakeup.context.template_pid
    with open(f"/proc/{pid}/status") as file:
        resident = next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))
    return [resident, len(os.listdir(f"/proc/{pid}/fd"))]
