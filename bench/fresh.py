"""What a fresh program pays: its first start (tracker, template and child together), and `import warmfork`.

Whole interpreters are timed, in turns, from before the exec to after the exit: no import timer sees everything.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable

from results import BARE, NOT_HERE, Gap, Result, summarise
from rounds import clean_environment, find_missing

PASS = "pass"
FIRST = """
import time
{make}
process = context.Process(target=int)
before = time.perf_counter_ns()
process.start()
process.join()
print(time.perf_counter_ns() - before, process.exitcode, type(process._popen).__module__.split(".")[0])
"""
MAKE = {
    "forkserver": ("multiprocessing", 'import multiprocessing\ncontext = multiprocessing.get_context("forkserver")'),
    "warmfork": ("warmfork", "import warmfork\ncontext = warmfork.get_context()"),
}
IMPORTS = {"multiprocessing": "import multiprocessing", "warmfork": "import warmfork"}
DEADLINE_SECONDS = 60


class ProgramFailed(Exception):
    """A program that was timed did not do what it should."""


def wait_for_exit(pid: int) -> None:
    """Wakes at the exit itself: Popen.wait(timeout) looks every few milliseconds, so it rounds what is timed."""
    pidfd = os.pidfd_open(pid)
    try:
        select.select([pidfd], [], [], DEADLINE_SECONDS)
    finally:
        os.close(pidfd)


def time_program(code: str) -> tuple[int, str]:
    """Runs `python -c code`; the time from before the exec to its exit, and what it printed."""
    before = time.perf_counter_ns()
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    )
    try:
        wait_for_exit(process.pid)
        taken = time.perf_counter_ns() - before
        # To the end of its pipes: its servers and trackers are gone before the next program is timed.
        out, complaints = process.communicate(timeout=DEADLINE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise ProgramFailed(f"not done, or something left running, after {DEADLINE_SECONDS} s") from None
    if process.returncode != 0:
        last = (complaints.strip().splitlines() or ["it said nothing"])[-1]
        raise ProgramFailed(f"exited with {process.returncode}: {last}")
    return taken, out


def time_first_start(name: str) -> tuple[int, int]:
    """The time of the first start()+join(), and of the whole program around it."""
    package, make = MAKE[name]
    whole, said = time_program(FIRST.format(make=make))
    start, exitcode, engine = said.split()
    if (exitcode, engine) != ("0", package):
        raise ProgramFailed(f"its child exited with {exitcode}, started by {engine} and not by {package}")
    return int(start), whole


def measure_first_starts(result: Result, n: int, tick: Callable[[str], None]) -> None:
    """First starts with the stdlib's forkserver and with warmfork, beside an interpreter that does nothing."""
    starts: dict[str, list[int]] = {}
    wholes: dict[str, list[int]] = {PASS: []}
    for name in MAKE:
        if find_missing([MAKE[name][0]]):
            result.gaps.append(Gap("first start", name, NOT_HERE, failed=False))
            continue
        try:
            time_first_start(name)  # compiles what is not compiled yet
        except ProgramFailed as error:
            result.gaps.append(Gap("first start", name, str(error), failed=True))
        else:
            starts[name], wholes[name] = [], []
    for _ in range(n):
        tick("first starts")
        wholes[PASS].append(time_program(PASS)[0])
        for name, times in starts.items():
            start, whole = time_first_start(name)
            times.append(start)
            wholes[name].append(whole)
    for name, times in starts.items():
        result.series.append(summarise(BARE, "first start", name, times))
    for name, times in wholes.items():
        result.series.append(summarise(BARE, "whole program", name, times))


def measure_imports(result: Result, n: int, tick: Callable[[str], None]) -> None:
    """What an import adds to a whole interpreter: the differences of n pairs, run one after the other."""
    added: dict[str, list[int]] = {}
    for name in IMPORTS:
        if find_missing([name]):
            continue
        try:
            time_program(IMPORTS[name])
        except ProgramFailed as error:
            result.gaps.append(Gap("first start", f"import {name}", str(error), failed=True))
        else:
            added[name] = []
    for _ in range(n):
        tick("imports")
        for name, times in added.items():
            bare, _ = time_program(PASS)
            times.append(time_program(IMPORTS[name])[0] - bare)
    for name, times in added.items():
        result.series.append(summarise(BARE, "import", name, times))
