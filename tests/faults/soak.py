"""`python -m tests.faults.soak`: for a quarter of an hour, everything but the program itself is killed at random.

The program (soaking.py) starts children, nested ones too, from several threads and checks every answer. One of its two
templates is spared, so that it can be seen whether it grows; its children are not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests import leftovers
from tests.faults.stage import PROMPT, ROOT
from warmfork._machine import pids

KILL_EVERY = 0.1
"""Seconds between two kills, in the mean."""

SAMPLE_EVERY = 0.5

SHARES = {"child": 0.93, "template": 0.055, "tracker": 0.015}
"""Whom the lot falls on. A template serves for a second or so between two deaths; a child lives for milliseconds."""

GROWTH_KIB = 2048
"""More than a template may grow between the first and the last quarter, in KiB."""


class Soak:
    """One soak under way."""

    def __init__(self, seconds: float, threads: int, seed: int) -> None:
        self.chance = random.Random(seed)
        self.kills: Counter[str] = Counter()
        self.samples: dict[str, list[tuple[int, int]]] = {"spared template": [], "program": []}
        self.folder = Path(tempfile.mkdtemp(prefix="soak-"))
        (self.folder / "tmp").mkdir()
        self.processes = leftovers.list_descendants()
        self.names = leftovers.list_shared_memory()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "WARMFORK_"))},
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(self.folder / "tmp"),
        }
        self.stderr = open(self.folder / "stderr", "w+b")  # noqa: SIM115
        self.program = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.soaking", str(seconds), str(threads)],
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            cwd=self.folder,
            env=environment,
            start_new_session=True,
        )
        self.spared = json.loads(self.program.stdout.readline())["spared"]
        self.limit = time.monotonic() + seconds + 60.0

    def run(self) -> dict[str, Any]:
        """Kill, and look, until the program says what it counted."""
        next_kill = next_sample = time.monotonic()
        data = b""
        while True:
            now = time.monotonic()
            if now > self.limit:
                self.end_all()
                raise SystemExit(f"the program hangs\n{self.read_stderr()}")
            if now >= next_kill:
                self.kill_one()
                next_kill = now + self.chance.expovariate(1 / KILL_EVERY)
            if now >= next_sample:
                self.take_sample()
                next_sample = now + SAMPLE_EVERY
            self.reap()
            rest = max(0.0, min(next_kill, next_sample, now + 0.02) - time.monotonic())
            if select.select([self.program.stdout], [], [], rest)[0]:
                part = os.read(self.program.stdout.fileno(), 65_536)
                if not part:
                    break
                data += part
        if not data:
            raise SystemExit(f"the program has not said what it counted\n{self.read_stderr()}")
        counted: dict[str, Any] = json.loads(data)
        return counted

    def kill_one(self) -> None:
        """Kill one process of the tree that is not the program, nor the template that is spared."""
        by_kind: dict[str, list[int]] = {kind: [] for kind in SHARES}
        for (pid, since), state in leftovers.list_descendants().items():
            if (pid, since) not in self.processes and state != "Z" and pid not in (self.program.pid, self.spared):
                by_kind[name_kind(leftovers.read_title(pid))].append(pid)
        found = by_kind[self.chance.choices(list(SHARES), list(SHARES.values()))[0]]
        if not found:
            return
        pid = self.chance.choice(found)
        kind = name_kind(leftovers.read_title(pid))
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.kills[kind] += 1

    def take_sample(self) -> None:
        """Note memory and fds of those that live throughout."""
        for name, pid in (("spared template", self.spared), ("program", self.program.pid)):
            try:
                pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                number = len(os.listdir(f"/proc/{pid}/fd"))
            except (FileNotFoundError, ProcessLookupError, IndexError):
                continue
            self.samples[name].append((pages * os.sysconf("SC_PAGE_SIZE") // 1024, number))

    def reap(self) -> None:
        """Reap orphans, as PID 1 would."""
        for (pid, _), state in leftovers.list_descendants().items() if self.chance.random() < 0.2 else ():
            if state == "Z" and pid != self.program.pid:
                try:
                    os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:
                    continue

    def measure_growth(self, name: str) -> tuple[int, int]:
        """Give by how many KiB and fds it grew from the first quarter to the last. The very first moments don't count."""
        samples = self.samples[name]
        samples = samples[len(samples) // 10 :]
        quarter = max(1, len(samples) // 4)
        first, last = samples[:quarter], samples[-quarter:]
        return tuple(  # type: ignore[return-value]
            round(statistics.median(sample[index] for sample in last))
            - round(statistics.median(sample[index] for sample in first))
            for index in (0, 1)
        )

    def find_leftovers(self) -> list[str]:
        """Say what is left two seconds after the program's end."""
        self.program.wait(10)
        deadline = time.monotonic() + PROMPT
        left = leftovers.wait_for_ends(self.processes, deadline)
        found = [f"process {leftovers.read_title(pid)} ({state})" for (pid, _), state in left.items()]
        names = leftovers.drop_strangers(leftovers.list_shared_memory() - self.names)
        files = [path for path in (self.folder / "tmp").rglob("*") if not path.is_dir()]
        return found + sorted(names) + list(map(str, files))

    def read_stderr(self) -> str:
        """Give the end of what the program wrote."""
        self.stderr.seek(0)
        return self.stderr.read().decode("utf-8", "replace")[-4000:]

    def end_all(self) -> None:
        """End what is left."""
        while found := leftovers.wait_for_ends(self.processes, 0.0):
            leftovers.end(found)
            leftovers.wait_for_any_death([pid for pid, _ in found], 0.1)
        if self.program.returncode is None:
            self.program.poll()

    def close(self) -> None:
        """End what is left, and remove the folder."""
        self.end_all()
        self.stderr.close()
        self.program.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def name_kind(title: str) -> str:
    """Say what a process is, by its title, or, before it has one, by what it was started as."""
    for kind in ("template", "tracker"):
        if title.startswith(f"warmfork: {kind} ") or f"/_{kind}/start.py" in title:
            return kind
    return "child"


def soak(seconds: float, threads: int = 4, seed: int = 0) -> tuple[list[str], dict[str, Any], list[str]]:
    """Soak. Gives what is wrong, the numbers, and why starts were refused."""
    soaking = Soak(seconds, threads, seed)
    try:
        counted = soaking.run()
        left = soaking.find_leftovers()
        counts = counted["counts"]
        numbers = {
            "seconds": seconds,
            "starts": counts.get("starts", 0),
            "kills": sum(soaking.kills.values()),
            **{f"{kind} killed": count for kind, count in sorted(soaking.kills.items())},
            "refused": counts.get("refused", 0),
            "late": counts.get("late", 0),
            "wrong": counts.get("wrong", 0),
            "leftovers": len(left),
            "slowest start": round(counted["slowest"], 3),
        }
        faults = counted["wrong"] + [f"left: {line}" for line in left]
        for name in soaking.samples:
            numbers[f"{name} growth KiB"], numbers[f"{name} growth fds"] = soaking.measure_growth(name)
        if numbers["spared template growth KiB"] > GROWTH_KIB or numbers["spared template growth fds"] > 2:
            faults.append("the template grows")
        if soaking.program.returncode:
            faults.append(f"the program ended with {soaking.program.returncode}")
        if faults:
            faults.append(soaking.read_stderr())
        return faults, numbers, counted["refusals"]
    finally:
        soaking.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Soak, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=900.0)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30), help="of the killer")
    options = parser.parse_args(argv)
    pids.become_subreaper()
    print(f"seed {options.seed}, Python {sys.version.split()[0]}", flush=True)
    faults, numbers, refusals = soak(options.seconds, options.threads, options.seed)
    width = max(map(len, numbers))
    for name, number in numbers.items():
        print(f"{name:{width}} {number}")
    for text in refusals:
        print(f"refused: {text}")
    for fault in faults:
        print(f"OFF: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
