"""Has the n-th system call of one kind of process fail, for n = 1, 2, 3 ... until none fails any more.

`python -m tests.faults.failing [--who WHO] [--errno NAME] [--every N]`. A call that fails may cost an answer, which says so;
what was refused works when it is tried again, nobody is told what is not so, and nothing is left or stays open.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tests.faults.injection import CALLS, WHO
from tests.faults.stage import PATIENCE, Fault, Stage
from warmfork._machine import pids

SLOW = 5.0
"""Seconds within which each thing is done or refused. Nothing waits in these programs."""

MOST = 400
"""Calls after which it is given up that one run comes to its end without a failure."""


class Run(NamedTuple):
    """One run with a failing call."""

    number: int
    call: str  # "" where none failed: there are no more of them
    at: str
    faults: list[str]
    refused: list[str]
    fds: tuple[int, int]  # open at the end in the program and in the template
    generation: int


def run_once(who: str, name: str, number: int) -> Run:
    """Run the program with this call failing."""
    with Stage("enduring", FAULTS_INJECT=f"{who} {name} {number}") as stage:
        faults = stage.faults
        refused: list[str] = []
        opened, generation = (0, 0), 0
        try:
            counted = stage.wait("the program's account", lambda: look(stage), 4 * PATIENCE)
            template = counted["template"]
            opened = counted["fds"], len(os.listdir(f"/proc/{template}/fd")) if template else 0
            generation = counted["generation"]
            stage.tell_program("finish")
            stage.expect("finishing", PATIENCE)
            stage.wait_dead(stage.program.pid, "the program that was told to finish", PATIENCE)
        except Fault as fault:
            faults.append(str(fault))
        for event in stage.events:
            judge_event(stage, event, who, refused)
        injected = stage.find("injected")
        faults += stage.find_leftovers()
        if faults:
            faults.append(stage.read_stderr()[-3000:])
        call, at = (injected["call"], injected["at"]) if injected else ("", "")
        return Run(number, call, at, faults, refused, opened, generation)


def look(stage: Stage) -> dict[str, int] | None:
    """Give the account, once it is there. A program that died has none to give."""
    if stage.is_dead(stage.program.pid):
        raise Fault("the program died")
    return stage.find("counted")


def judge_event(stage: Stage, event: dict[str, object], who: str, refused: list[str]) -> None:
    """Hold what the program was told against what was so."""
    if event["what"] == "refused":
        refused.append(f"{event['name']}: {event['error']}")
        if event["number"] != 1:
            stage.faults.append(f"{event['name']} was refused again: {event['error']}")
        if not event["told"]:
            stage.faults.append(f"{event['name']} met an error that says nothing: {event['error']}")
    if event["what"] in ("done", "refused") and float(str(event["took"])) > SLOW:
        stage.faults.append(f"{event['name']} took {event['took']:.1f} s")
    if event["what"] == "ended" and event["code"] != event["wanted"]:
        truth = stage.read_truth(int(str(event["child"])))
        # A child that can't become what it was to be ends with 1 and says why, and so does whoever waits for its result.
        if who == "child" and (
            event["code"] == 1 or "birth" in str(event["code"]) or "Exited(code=1)" in str(event["code"])
        ):
            refused.append(f"a child ended with {event['code']}")
        elif event["code"] == 99:
            refused.append("the start of a nested process")
        elif event["code"] == 1 and truth in (1, None) and who == "template":
            refused.append("a child ended with 1")
        else:
            stage.faults.append(f"a child was to end with {event['wanted']}, ended with {truth}: {event['code']}")


def run_all(who: str, name: str, every: int = 1) -> Iterator[Run]:
    """Run for n = 1, 1 + every, ..., until no call fails any more."""
    plain = run_once(who, name, 0)
    for number in range(1, MOST, every):
        run = run_once(who, name, number)
        if run.call:
            for whose, before, after in zip(("program", "template"), plain.fds, run.fds, strict=True):
                if after > before > 0:
                    run.faults.append(f"{after - before} fds more are open in the {whose}")
        yield run
        if not run.call:
            return
    raise RuntimeError(f"{who} {name}: no end after {MOST} calls")


def main(argv: Sequence[str] | None = None) -> int:
    """Run, and print one line for each kind of process and errno."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.failing", description=__doc__)
    parser.add_argument("--who", nargs="+", choices=WHO, default=WHO)
    parser.add_argument("--errno", nargs="+", choices=CALLS, default=list(CALLS))
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only each N-th call")
    parser.add_argument("-v", action="store_true", help="say what was refused")
    options = parser.parse_args(argv)
    pids.become_subreaper()
    off = 0
    print("| whose call | error | calls that failed | told to whoever asked | nobody noticed | off |")
    print("|---|---|---:|---:|---:|---:|")
    for who in options.who:
        for name in options.errno:
            began = time.monotonic()
            runs = [run for run in run_all(who, name, options.every) if run.call or run.faults]
            bad = [run for run in runs if run.faults]
            off += len(bad)
            told = sum(bool(run.refused) for run in runs)
            print(f"| {who} | {name} | {len(runs)} | {told} | {len(runs) - told} | {len(bad)} |", flush=True)
            for run in runs if options.v else bad:
                print(
                    f"    n={run.number} {run.call} at {run.at}, gen {run.generation}",
                    *run.refused,
                    *run.faults,
                    sep="\n        ",
                )
            if options.v:
                print(f"    {time.monotonic() - began:.0f} s")
    return 1 if off else 0


if __name__ == "__main__":
    sys.exit(main())
