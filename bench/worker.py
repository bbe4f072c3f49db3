"""One competitor, on command: reads lines as "join COUNT GAP_NS", does that, answers each with a line of numbers.

"join" makes that many starts and tells their times in ns. Any other word names a file in jobs/, whose run() gets this
competitor's bed and the numbers that follow: what a bench measures besides is added there.

Runs in a process of its own, so that the imports of one competitor do not weigh on another. The floor's process must
have nothing but the template's own modules: multiprocessing is imported by those that need it, and nothing is
imported at the top that a bare interpreter does not have.
"""

from __future__ import annotations

import os
import sys
import time

WARM_UP = 20
SWITCHES = {"no spares": "spares", "in band": "out_of_band"}
"""Words in a competitor's name, and the technique that it does without."""

PROOF = 77  # the exit code by which a child says that it has all the modules


class NotOnItsEngine(Exception):
    """The starts were made by something else than the competitor, or the children do not have what they should."""


def prove() -> None:
    """The target of the first child: only code that really ran with the modules at hand can exit with PROOF."""
    missing = [name for name in os.environ["BENCH_MODULES"].split() if name not in sys.modules]
    sys.exit(f"the child lacks {missing}" if missing else PROOF)


def make_floor():  # type: ignore[no-untyped-def]
    """The least that a new process can cost here: fork, _exit, waitpid."""

    def start() -> int:
        before = time.perf_counter_ns()
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        taken = time.perf_counter_ns() - before
        if status:
            raise ChildProcessError(f"the forked child ended with status {status}")
        return taken

    return start


def get_context(competitor: str, modules: list[str]):  # type: ignore[no-untyped-def]
    """A context with all preloaded that its maker can preload, and the package that its starts must come from."""
    if competitor.startswith("warmfork"):
        import warmfork

        without = [name for word, name in SWITCHES.items() if word in competitor]
        os.environ["WARMFORK_WITHOUT"] = ",".join(without)
        return warmfork.get_context(preload=modules), "warmfork"
    if competitor == "billiard":
        import billiard

        return billiard.get_context("fork"), "billiard"
    if competitor == "loky":
        from loky.backend import get_context as get_loky_context

        return get_loky_context("loky_init_main"), "loky"
    import multiprocessing

    context = multiprocessing.get_context(competitor)
    if competitor == "forkserver":
        context.set_forkserver_preload(["__main__", *modules])
    return context, "multiprocessing"


def make_context_start(competitor: str, context, package: str, noop):  # type: ignore[no-untyped-def]
    """start() and join() of a Process, its construction included, as the competitor's context makes it."""
    first = context.Process(target=prove)
    first.start()
    engine = type(first._popen).__module__
    first.join()
    if first.exitcode != PROOF:
        raise NotOnItsEngine(f"the first child of {competitor} exited with {first.exitcode}, not with {PROOF}")
    if engine.split(".")[0] != package:
        raise NotOnItsEngine(f"the starts of {competitor} are made by {engine}, not by {package}")

    def start() -> int:
        before = time.perf_counter_ns()
        process = context.Process(target=noop)
        process.start()
        process.join()
        taken = time.perf_counter_ns() - before
        if process.exitcode != 0:
            raise ChildProcessError(f"a no-op child exited with {process.exitcode}")
        return taken

    return start


class Bed:
    """What a job has to work with."""

    def __init__(self, noop, tell) -> None:  # type: ignore[no-untyped-def]
        self.competitor = os.environ["BENCH_COMPETITOR"]
        self.tell = tell  # a function of the program: what its first line says, and to which file
        self.context = None
        if self.competitor == "floor":
            self.start = make_floor()
            return
        self.context, package = get_context(self.competitor, os.environ["BENCH_MODULES"].split())
        self.start = make_context_start(self.competitor, self.context, package, noop)

    def join(self, count: int, gap_ns: int) -> list[int]:
        times = []
        for _ in range(count):
            if gap_ns:
                time.sleep(gap_ns / 1e9)
            times.append(self.start())
        return times


def serve(noop, tell=None) -> None:  # type: ignore[no-untyped-def]
    """Gets warm, says "ready", then answers each line on stdin with a line of numbers until stdin ends."""
    wakeup = Bed(noop, tell)
    for _ in range(int(os.environ.get("BENCH_WARM_UP", WARM_UP))):
        wakeup.start()
    print("ready", flush=True)
    for line in sys.stdin:
        job, *words = line.split()
        numbers = [int(word) for word in words]
        if job == "join":
            found = wakeup.join(*numbers)
        else:
            from importlib import import_module

            found = import_module(f"jobs.{job}").run(wakeup, *numbers)
        print(*found, flush=True)
