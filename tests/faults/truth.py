"""`python -m tests.faults.truth --seconds 60`: is it true what is said of children whose template and tracker are killed?

A program starts children from three threads, of a context and of a Template, which end with every code there is and by
signals, while three times a second one of the two helpers is killed, or both at once, in either order. What is said of a
child must be how it ended. Whoever inherits the children does not reap them,
as in many containers, where pid 1 is some program: then a zombie is all that there is to ask.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

import warmfork
from tests import leftovers
from tests.running import ROOT
from warmfork._machine import pids

KILLS = 3.0
"""A second."""

THREADS = 3
SIGNALS = (signal.SIGTERM, signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV, signal.SIGUSR1)
LIFE = 0.3
"""Most seconds that a child lives."""

LATE = 20.0
"""Seconds after which an answer is missing."""


def end(code: int, seconds: float) -> None:
    """What the children do: end, by a signal where the code is negative."""
    time.sleep(seconds)
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


class Truth:
    """The program: its threads, and what they saw."""

    def __init__(self, seconds: float, seed: int) -> None:
        self.until = time.monotonic() + seconds
        self.chance = random.Random(seed)
        self.lock = threading.Lock()
        self.answers = self.refused = 0
        self.killed: set[int] = set()
        self.wrong: list[str] = []
        self.context = warmfork.get_context(start_timeout=20.0)
        self.codes: list[int] = []

    def draw(self) -> int:
        """Give how the next child is to end: each code once before any comes again, 0 as often as all others."""
        with self.lock:
            if not self.codes:
                self.codes = [*range(256), *(-int(number) for number in SIGNALS), *[0] * 256]
                self.chance.shuffle(self.codes)
            return self.codes.pop()

    def start_children(self) -> None:
        """What a thread does: start children, and hold what is said of each against how it was to end."""
        while time.monotonic() < self.until:
            started = []
            for _ in range(4):
                code = self.draw()
                process = self.context.Process(target=end, args=(code, self.chance.random() * LIFE))
                try:
                    process.start()
                except warmfork.WarmforkError:  # the helpers died under it: a true answer too
                    with self.lock:
                        self.refused += 1
                    continue
                started.append((process, code))
            for process, code in started:
                process.join(LATE)
                with self.lock:
                    self.answers += 1
                    # A child has its template's title until it has its own, and may have been killed for it.
                    truths = (code, -9) if process.pid in self.killed else (code,)
                    if process.exitcode not in truths:
                        self.wrong.append(
                            f"pid {process.pid} ended with {code}, and was said to with {process.exitcode}"
                        )

    def kill_helpers(self) -> None:
        """Kill a helper, or both."""
        found = {"template": [], "tracker": []}
        for pid, _ in leftovers.list_descendants():
            title = leftovers.read_title(pid)
            for kind, these in found.items():
                if title.startswith(f"warmfork: {kind}"):
                    these.append(pid)
        kinds = self.chance.choice((["template"], ["tracker"], ["template", "tracker"], ["tracker", "template"]))
        for kind in kinds:
            for pid in found[kind]:
                self.killed.add(pid)
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue

    def run(self) -> dict[str, Any]:
        """Run, and give what was counted."""
        threads = [threading.Thread(target=self.start_children) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        done = threading.Event()
        while time.monotonic() < self.until and not done.wait(1 / KILLS):
            self.kill_helpers()
        for thread in threads:
            thread.join()
        return {"answers": self.answers, "kills": len(self.killed), "refused": self.refused, "wrong": self.wrong}


def hold(seconds: float, seed: int) -> dict[str, Any]:
    """Run the program in a process of its own, which inherits what it loses and reaps none of it."""
    with tempfile.TemporaryFile("w+") as errors:
        program = subprocess.run(
            [sys.executable, "-m", "tests.faults.truth", "--program", "--seconds", str(seconds), "--seed", str(seed)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            timeout=seconds + 90,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        errors.seek(0)
        if program.returncode:
            raise RuntimeError(f"the program ended with {program.returncode}:\n{errors.read()}")
    counted: dict[str, Any] = json.loads(program.stdout)
    return counted


def main() -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--program", action="store_true")
    options = parser.parse_args()
    seed = options.seed or time.time_ns() % 1_000_000
    if options.program:
        pids.become_subreaper()  # orphans come to us; the children that are our own template's are not ours to reap
        print(json.dumps(Truth(options.seconds, seed).run()))
        return 0
    counted = hold(options.seconds, seed)
    print(f"seed {seed}: {counted['answers']} answers, {counted['kills']} kills, {counted['refused']} starts refused")
    print(*counted["wrong"], f"{len(counted['wrong'])} wrong", sep="\n")
    return 1 if counted["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
