"""Chaos: tasks of all lengths, and random deaths, limits, cancels and interrupts; each future is held against what happened.

python -m tests.api.executor.chaos --seconds 600 [--seed N] [--workers N]

A task writes one byte to a file of its own when it begins, so "once" is seen from outside. At the end of each round: every
future has ended, once, with the truth; no task began twice that was not to be retried; nothing is left.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter

import warmfork
from tests.api.executor import jobs
from warmfork._machine import pids
from warmfork._tasks import tree

LENGTHS = (0, 0, 0, 0, 0.0001, 0.001, 0.001, 0.01, 0.1)
"""Seconds that tasks take."""


class Round:
    """One executor, some hundreds of tasks, and what happens to them."""

    def __init__(self, random_: random.Random, workers: int, count: int, template: warmfork.Template) -> None:
        self.random = random_
        self.count = count
        self.template = template
        self.folder = tempfile.TemporaryDirectory(prefix="chaos-")
        self.executor = warmfork.Executor(
            workers, template=template, tasks_per_worker=random_.choice((None, None, 1, 40))
        )
        self.seen: Counter[str] = Counter()
        self.ends: Counter[int] = Counter()
        self.over = threading.Event()
        self.killed = 0
        self.faults: list[str] = []

    def make(self, number: int) -> tuple[str, concurrent.futures.Future]:
        """Submit a task of a random kind."""
        path = os.path.join(self.folder.name, str(number))
        length = self.random.choice(LENGTHS)
        dice = self.random.random()
        submit = self.executor.submit
        if dice < 0.80:
            return "value", submit(jobs.count_and_wait, path, number, length)
        if dice < 0.83:
            return "crash", submit(jobs.count_and_die, path, self.random.choice((0, signal.SIGSEGV, signal.SIGKILL)))
        if dice < 0.86:
            return "error", submit(jobs.count_and_raise, path, number)
        if dice < 0.88:
            return "unpicklable", submit(jobs.count_and_give_lock, path)
        if dice < 0.90:
            return "late", self.executor.with_options(timeout=0.02).submit(jobs.count_and_wait, path, number, 60)
        if dice < 0.91:
            limited = self.executor.with_options(memory_limit=20 << 20)
            return "memory", limited.submit(jobs.count_and_hold, path, 60 << 20)
        if dice < 0.94:
            return "retried", self.executor.with_options(retries=50).submit(jobs.count_and_wait, path, number, length)
        if dice < 0.96:
            return "large", submit(jobs.count_and_echo, path, b"x" * 100_000)
        return "cancelled", submit(jobs.count_and_wait, path, number, self.random.choice((0, 0.001, 60)))

    def torment(self) -> None:
        """Kill workers and templates, in a thread."""
        mine = random.Random(self.random.random())
        while not self.over.wait(mine.uniform(0.005, 0.08)):
            if mine.random() < 0.004:
                kill(self.template.pid)
                continue
            # Few of those that are not born yet: that many in a row mean that no worker can live, and it is given up.
            slots = tuple(self.executor._core.slots)
            living = [slot.pid for slot in slots if slot.ready or (slot.pid and mine.random() < 0.05)]
            if living and mine.random() < 0.7:
                self.killed += 1
                kill(mine.choice(living))

    def run(self) -> None:
        """Submit, torment, wait, judge."""
        thread = threading.Thread(target=self.torment)
        thread.start()
        tasks: list[tuple[str, concurrent.futures.Future]] = []
        try:
            for number in range(self.count):
                kind, future = self.make(number)
                tasks.append((kind, future))
                future.add_done_callback(lambda done, number=number: self.ends.update((number,)))
                if self.random.random() < 0.05:
                    for other, one in self.random.sample(tasks, min(len(tasks), 5)):
                        if other == "cancelled":
                            one.cancel()
                if self.random.random() < 0.02:
                    time.sleep(0.005)
            for kind, future in tasks:
                if kind == "cancelled":
                    future.cancel()
            _, pending = concurrent.futures.wait([future for _, future in tasks], 60)
            self.faults += [f"{future} never ended" for future in pending]
        finally:
            self.over.set()
            thread.join()
        for number, (kind, future) in enumerate(tasks):
            if future.done():
                self.judge(number, kind, future)
        self.executor.shutdown()
        self.folder.cleanup()

    def judge(self, number: int, kind: str, future: concurrent.futures.Future) -> None:
        """Hold what a future says against what happened."""
        try:
            begun = os.path.getsize(os.path.join(self.folder.name, str(number)))
        except FileNotFoundError:
            begun = 0
        error = None if future.cancelled() else future.exception()
        said = "cancelled" if future.cancelled() else type(error).__name__ if error is not None else "value"
        self.seen[f"{kind}: {said}"] += 1
        allowed = {
            "value": {"value", "WorkerDied"}, "crash": {"WorkerDied"}, "error": {"LookupError", "WorkerDied"},
            "unpicklable": {"ResultError", "WorkerDied"}, "late": {"TaskTimeout", "WorkerDied"},
            "memory": {"LimitExceeded", "WorkerDied"}, "retried": {"value"}, "large": {"value", "WorkerDied"},
            "cancelled": {"cancelled", "value", "WorkerDied"},
        }[kind]  # fmt: skip
        if said not in allowed:
            self.faults.append(f"task {number} ({kind}) ended with {said}: {error!r}")
        if begun > 1 and kind != "retried":
            self.faults.append(f"task {number} ({kind}) was begun {begun} times")
        if said == "value" and begun == 0:
            self.faults.append(f"task {number} ({kind}) has a value and never began")
        if said == "value" and kind != "large" and future.result() != number:
            self.faults.append(f"task {number} ({kind}) has the value {future.result()!r}")
        if self.ends[number] != 1:
            self.faults.append(f"task {number} ({kind}) ended {self.ends[number]} times")
        if said == "WorkerDied" and begun == 0 and kind != "crash":
            # It may have died between its claim and its first line; so may a few, and no more.
            self.seen["died before its first line"] += 1


def kill(pid: int) -> None:
    """Kill a process that may be dead already."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def run(seconds: float, seed: int, workers: int = 3, count: int = 400) -> tuple[int, Counter[str], list[str]]:
    """Run rounds for so long. Gives how many, what was seen, and the faults."""
    random_ = random.Random(seed)
    until = time.monotonic() + seconds
    seen: Counter[str] = Counter()
    faults: list[str] = []
    rounds = 0
    with warmfork.Template(preload=[jobs.__name__], spares=0, name="chaos") as template:
        template.wait_ready()
        while not faults and (rounds == 0 or time.monotonic() < until):
            one = Round(random_, workers, count, template)
            one.run()
            rounds += 1
            seen += one.seen
            seen["kills from outside"] += one.killed
            faults += one.faults
    return rounds, seen, faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "little"))
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--count", type=int, default=400)
    given = parser.parse_args()
    pids.become_subreaper()
    print(f"seed {given.seed}, {given.seconds:.0f} s, Python {sys.version.split()[0]}", flush=True)
    rounds, seen, faults = run(given.seconds, given.seed, given.workers, given.count)
    for what, times in sorted(seen.items()):
        print(f"{times:8} {what}")
    left = [pid for pid in tree.list_descendants(os.getpid()) if b"chaos-" in read_title(pid)]
    faults += [f"process {pid} is left" for pid in left]
    print(
        f"{rounds} rounds of {given.count} tasks, {len(faults)} faults",
        *(fault[:400] for fault in faults[:10]),
        sep="\n",
    )
    sys.exit(bool(faults))


def read_title(pid: int) -> bytes:
    """What ps shows."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return b""


if __name__ == "__main__":
    main()
