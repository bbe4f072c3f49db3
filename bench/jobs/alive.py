"""The times of starts, in ns, while so many processes live: "alive LIVING COUNT GAP_NS". Before them the numbers of open
fds, of this process and of its template (-1: there is none)."""

from __future__ import annotations

import os
import resource
import signal
import sys

living: list[object] = []
FDS = 10_000


def run(wakeup, count: int, starts: int, gap_ns: int) -> list[int]:  # type: ignore[no-untyped-def]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FDS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(FDS, hard), hard))
    if count < len(living):
        end_all(wakeup)
        return []
    grow(wakeup, count)
    wakeup.join(10, gap_ns)
    times = wakeup.join(starts, gap_ns)
    return [count_fds(os.getpid()), count_fds(find_template(wakeup)), *times]


def grow(wakeup, count: int) -> None:  # type: ignore[no-untyped-def]
    if wakeup.context is None:
        while len(living) < count:
            pid = os.fork()
            if pid == 0:
                signal.pause()
                os._exit(0)
            living.append(pid)
        return
    made = [wakeup.context.Process(target=signal.pause, daemon=True) for _ in range(count - len(living))]
    living.extend(made)
    if hasattr(wakeup.context, "start_many"):
        wakeup.context.start_many(made)
    else:
        for process in made:
            process.start()


def end_all(wakeup) -> None:  # type: ignore[no-untyped-def]
    for one in living:
        if wakeup.context is None:
            os.kill(one, signal.SIGKILL)
            os.waitpid(one, 0)
        else:
            one.kill()
            one.join()
    living.clear()


def find_template(wakeup) -> int:  # type: ignore[no-untyped-def]
    if hasattr(wakeup.context, "template_pid"):
        return wakeup.context.template_pid
    forkserver = sys.modules.get("multiprocessing.forkserver")
    return forkserver._forkserver._forkserver_pid if forkserver is not None else 0


def count_fds(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd")) if pid else -1
