"""The program of a soak: threads that start children of two templates, nested ones too, and check every answer.

`python -m tests.faults.soaking SECONDS`. It says on stdout who the template is that nobody is to kill, and at the end
what it counted, each as a line of JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any

import warmfork
from tests.faults.stage import PROMPT
from warmfork._machine import fds, pids

START = 5.0
"""Seconds within which a start is to be answered, templates that die under it included."""

WRONG = 3
"""With what a child ends whose own child was not told the truth."""

REFUSED = 4
"""With what a child ends whose own start was refused."""


def end(kind: str, code: int, seconds: float) -> int:
    """What the children do: end in one of the ways there are."""
    time.sleep(seconds)
    if kind == "exit":
        sys.exit(code)
    if kind == "_exit":
        os._exit(code)
    if kind == "signal":
        signal.signal(code, signal.SIG_DFL)
        os.kill(os.getpid(), code)
    if kind == "raise":
        raise ValueError(code)
    return code


def start_and_check(context: Any, code: int) -> None:
    """What a child does that starts another."""
    tally = Tally()
    try:
        check_process(context, tally, end, ("_exit", code, 0.0), code)
    except warmfork.WarmforkError:
        sys.exit(REFUSED)
    sys.exit(WRONG if tally.wrong else 0)


class Tally:
    """What was counted, by any thread."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.refusals: list[str] = []
        self.slowest = 0.0

    def count(self, what: str) -> None:
        """One more."""
        with self.lock:
            self.counts[what] += 1

    def blame(self, what: str, text: str) -> None:
        """An answer was not as it must be."""
        with self.lock:
            self.counts[what] += 1
            self.wrong.append(f"{what}: {text}")

    def refuse(self, why: str) -> None:
        """A start was refused. That is an answer, and a true one where templates were killed under it."""
        with self.lock:
            self.counts["refused"] += 1
            self.refusals.append(why)

    def time_start(self, began: float, what: str) -> None:
        """A start was answered."""
        took = time.monotonic() - began
        self.count("starts")
        with self.lock:
            self.slowest = max(self.slowest, took)
        if took > START:
            self.blame("late", f"{what} took {took:.1f} s to start")


def bury_holder(pidfd: int) -> float:
    """Wait for a death, and give when it was."""
    fds.wait_readable(pidfd, None)
    return time.monotonic()


def read_truth(pidfd: int) -> int | None:
    """Give the exit code of a dead process as the kernel has it once it is reaped (Linux 6.15)."""
    deadline = time.monotonic() + 1.0
    while (status := pids.ask_status(pidfd)) is None:
        if time.monotonic() > deadline:
            return None
        time.sleep(0.001)
    return os.waitstatus_to_exitcode(status)


def check(tally: Tally, what: str, said: int, truth: int | None, wanted: int, died: float) -> None:
    """Hold what was said against what the kernel says, or, where that says nothing, against what was to be."""
    if time.monotonic() - died > PROMPT:
        tally.blame("late", f"{what} was told {time.monotonic() - died:.1f} s after its death")
    if truth is None:
        truth = said if said in (wanted, -9) else wanted
    if said != truth:
        tally.blame("wrong", f"{what} ended with {truth}, and was said to have ended with {said}")
    elif truth != wanted:
        tally.count("struck" if truth == -9 else "by themselves")
        if truth != -9 and truth != REFUSED:
            tally.blame("wrong", f"{what} ended with {truth}, and was to end with {wanted}")


def check_process(context: Any, tally: Tally, target: Callable[..., Any], given: tuple[Any, ...], wanted: int) -> None:
    """Start a Process and check how it is said to have ended."""
    began = time.monotonic()
    process = context.Process(target=target, args=given)
    process.start()
    tally.time_start(began, "a Process")
    pidfd = os.dup(process.sentinel)
    try:
        died = bury_holder(pidfd)
        process.join()
        truth = read_truth(pidfd)
        check(tally, f"{target.__name__}{given[-3:]} pid {process.pid}", process.exitcode, truth, wanted, died)
    finally:
        os.close(pidfd)
        process.close()


def check_child(template: warmfork.Template, tally: Tally, kind: str, code: int, seconds: float) -> None:
    """Start a child of a template, and check its outcome and its result."""
    began = time.monotonic()
    child = template.start(end, (kind, code, seconds))
    tally.time_start(began, "a child")
    died = bury_holder(child.fileno())
    outcome = child.wait()
    said = outcome.code if isinstance(outcome, warmfork.Exited) else -getattr(outcome, "signal", 999)
    wanted = {"exit": code, "_exit": code, "signal": -code, "raise": 1}.get(kind, 0)
    check(tally, f"end{kind, code} pid {child.pid}", said, read_truth(child.fileno()), wanted, died)
    try:
        result: object = child.result()
    except (ValueError, warmfork.ChildError) as error:
        result = error
    if said == wanted:
        right = {"return": result == code, "raise": isinstance(result, ValueError)}
        if not right.get(kind, isinstance(result, warmfork.ChildError)):
            tally.blame("wrong", f"{kind} {code} gave the result {result!r}")
    elif isinstance(result, warmfork.ChildError) and result.outcome != outcome:
        tally.blame("wrong", f"the error says {result.outcome}, the outcome is {outcome}")
    child.close()


KINDS = ("return", "exit", "_exit", "signal", "raise")


def choose_end(chance: random.Random) -> tuple[str, int, float]:
    """Choose how a child is to end."""
    kind = chance.choice(KINDS)
    code = chance.choice((1, 2, 6, 15)) if kind == "signal" else chance.randrange(1, 128)
    return kind, code, chance.choice((0.0, 0.0, 0.0, 0.002, 0.02))


def work(until: float, seed: int, tally: Tally, template: warmfork.Template, context: Any) -> None:
    """What each thread does: this and that, until it is time."""
    chance = random.Random(seed)
    while time.monotonic() < until:
        try:
            which = chance.random()
            if which < 0.55:
                check_child(template, tally, *choose_end(chance))
            elif which < 0.95:
                code = chance.randrange(1, 128)
                check_process(context, tally, end, ("_exit", code, chance.choice((0.0, 0.005))), code)
            else:
                check_process(context, tally, start_and_check, (context, chance.randrange(1, 128)), 0)
        except warmfork.WarmforkError as error:
            tally.refuse(str(error))
        except BaseException:
            tally.blame("wrong", traceback.format_exc())


def main() -> None:
    """Work, and say what was counted."""
    seconds, threads = float(sys.argv[1]), int(sys.argv[2])
    context = warmfork.get_context()
    context.wait_ready()
    print(json.dumps({"spared": context.template_pid}), flush=True)
    tally = Tally()
    until = time.monotonic() + seconds
    with warmfork.Template(preload=["tests.faults.soaking"]) as template:
        workers = [
            threading.Thread(target=work, args=(until, seed, tally, template, context)) for seed in range(threads)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    context.stop_template()
    counted: dict[str, Any] = {"counts": tally.counts, "wrong": tally.wrong[:50], "slowest": tally.slowest}
    counted["refusals"] = tally.refusals[:20]
    print(json.dumps(counted), flush=True)


if __name__ == "__main__":
    main()
