"""Runs the competitors against each other, in turns, so that a slow moment of the machine hits all of them.

Each is a process (program.py) that is told over a pipe how many starts to make. A round gives every competitor one
block of starts; the order turns by one from round to round. While one has its turn the others wait on their pipes.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from results import Gap, Result, summarise

HERE = Path(__file__).resolve().parent
BLOCK = 10
PACE_NS = 8_000_000
MODES = {"paced": PACE_NS, "back to back": 0}
# A start of these takes so long that they make one where the others make this many.
SLOW = {"spawn": 30, "loky": 30}
COMMAND = """import os
for name in os.environ["BENCH_MODULES"].split(): __import__(name)
import worker
worker.serve(int)
"""
GOODBYE_SECONDS = 30


class WorkerFailed(Exception):
    """A competitor's process ended, or answered nonsense, where times were expected."""


def clean_environment(**extra: str) -> dict[str, str]:
    """The environment for what is timed.

    PYTHONDONTWRITEBYTECODE would have every import compiled anew, and warmfork's own variables would have the
    stdlib's forkserver replaced by warmfork.
    """
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE" and not k.startswith("WARMFORK_")}
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH", "")]))
    return {**kept, "PYTHONPATH": path, **extra}


def find_missing(names: Iterable[str]) -> list[str]:
    return [name for name in names if find_spec(name) is None]


class Worker:
    """One competitor's process. A context manager: leaving it ends the process and waits for all that it started."""

    def __init__(self, competitor: str, modules: Sequence[str], *, script: bool = True) -> None:
        self.competitor = competitor
        # A file and no pipe: nobody has to empty it while the worker runs. Leaving the context closes it.
        self.complaints = tempfile.TemporaryFile("w+")  # noqa: SIM115
        extra = {"BENCH_COMPETITOR": competitor, "BENCH_MODULES": " ".join(modules)}
        if competitor in SLOW:
            extra["BENCH_WARM_UP"] = "1"
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "program.py")] if script else [sys.executable, "-c", COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.complaints,
            text=True,
            env=clean_environment(**extra),
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.end()
        finally:
            self.complaints.close()

    def end(self) -> None:
        """Closes its stdin and reads its stdout to the end: nobody holds it when servers and trackers are gone too."""
        try:
            self.process.communicate(timeout=GOODBYE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            why = f"{self.competitor} left processes behind, or did not end, {GOODBYE_SECONDS} s after its last start"
            raise WorkerFailed(why) from None

    def wait_ready(self) -> None:
        self.read_line()

    def make_starts(self, count: int, gap_ns: int) -> list[int]:
        return self.do("join", count, gap_ns)

    def do(self, job: str, *numbers: int) -> list[int]:
        """Have it do a job (see worker.py), and give what it measured."""
        with suppress(BrokenPipeError):  # then read_line says why
            print(job, *numbers, file=self.process.stdin, flush=True)
        return [int(word) for word in self.read_line().split()]

    def read_line(self) -> str:
        line = self.process.stdout.readline() if self.process.stdout else ""
        if line:
            return line
        self.end()
        self.complaints.seek(0)
        said = self.complaints.read().strip()
        last = said.splitlines()[-1] if said else "it said nothing"
        raise WorkerFailed(f"exited with {self.process.returncode}: {last}", said)


@contextmanager
def open_workers(
    result: Result,
    sheet: str,
    competitors: Iterable[str],
    modules: Sequence[str],
    tick: Callable[[str], None],
    note: str = "",
) -> Iterator[list[Worker]]:
    """All competitors, warm. Those that do not come up become gaps of `sheet`, as do those that do not end well."""
    try:
        with ExitStack() as stack:
            workers = []
            for competitor in competitors:
                tick(f"{note}warming up {competitor}")
                worker = stack.enter_context(Worker(competitor, modules))
                try:
                    worker.wait_ready()
                except WorkerFailed as error:
                    result.gaps.append(Gap(sheet, f"{note}{competitor}", error.args[0], failed=True))
                else:
                    workers.append(worker)
            yield workers
    except WorkerFailed as error:
        result.gaps.append(Gap(sheet, f"{note}the end of the run", error.args[0], failed=True))


def measure(
    result: Result,
    template: str,
    modules: Sequence[str],
    competitors: Sequence[str],
    *,
    n: int,
    modes: Iterable[str] = MODES,
    script: bool = True,
    tick: Callable[[str], None] = lambda _: None,
) -> None:
    """Puts the times of all competitors on one template into `result`; what can't be measured becomes a gap there."""
    missing = find_missing(modules)
    if missing:
        result.gaps.append(Gap(template, "all", f"not installed: {', '.join(missing)}", failed=False))
        return
    try:
        with ExitStack() as stack:
            workers = []
            for competitor in competitors:
                tick(f"{template}: warming up {competitor}")
                worker = stack.enter_context(Worker(competitor, modules, script=script))
                try:
                    worker.wait_ready()
                except WorkerFailed as error:
                    result.gaps.append(Gap(template, competitor, error.args[0], failed=True))
                else:
                    workers.append(worker)
            for mode in modes:
                take_turns(result, template, mode, workers, n, tick)
    except WorkerFailed as error:
        result.gaps.append(Gap(template, "the end of the run", error.args[0], failed=True))


def count_ticks(competitors: int, n: int, modes: int = len(MODES)) -> int:
    """How often measure() calls tick for one template, if all goes well."""
    return competitors + competitors * math.ceil(n / BLOCK) * modes


def take_turns(
    result: Result, template: str, mode: str, workers: list[Worker], n: int, tick: Callable[[str], None]
) -> None:
    """Makes n starts with each worker, a block at a time, the order turned by one in each round.

    A worker that fails is taken out of `workers`, and what it has measured in this mode does not count.
    """
    times: dict[str, list[int]] = {worker.competitor: [] for worker in workers}
    for turn in range(math.ceil(n / BLOCK)):
        shift = turn % len(workers) if workers else 0
        for worker in [*workers[shift:], *workers[:shift]]:
            tick(f"{template}, {mode}: {worker.competitor}")
            count = count_block(worker.competitor, turn, n)
            try:
                times[worker.competitor] += worker.make_starts(count, MODES[mode]) if count else []
            except WorkerFailed as error:
                result.gaps.append(Gap(template, f"{worker.competitor}, {mode}", error.args[0], failed=True))
                workers.remove(worker)
    result.series += [summarise(template, mode, worker.competitor, times[worker.competitor]) for worker in workers]


def count_block(competitor: str, turn: int, n: int) -> int:
    """How many starts a competitor makes in its turn: a block, what is left of n, or now and then one if it is slow."""
    if competitor in SLOW:
        return 1 if turn % (SLOW[competitor] // BLOCK) == 0 else 0
    return min(BLOCK, n - turn * BLOCK)
