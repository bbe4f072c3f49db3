"""Runs programs, each in a fresh process, the contenders in turns: a slow moment of the machine hits all of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from catalogue import Program
from contenders import BEGUN, COMPETITOR, FORKSERVER, LOKY, SIZE, SPAWN, now
from results import Gap, Measure, Result

HERE = Path(__file__).resolve().parent
SLOW = {SPAWN: 2, FORKSERVER: 2, LOKY: 2}
"""Contenders that import everything in each child: they take part in so many rounds."""

DEADLINE = 180
Tick = Callable[[str], None]


class ProgramFailed(Exception):
    """A program did not end, or not well, or said nothing."""


@dataclass(frozen=True)
class Contender:
    """Somebody who has turns: what the table calls it, and what its programs are told."""

    label: str
    competitor: str
    environment: Mapping[str, str] = field(default_factory=dict)
    tree: Path | None = None
    """The folder with the warmfork that it uses, where it is not the installed one."""


def make_environment(program: Program, contender: Contender) -> dict[str, str]:
    """The environment of a program.

    PYTHONDONTWRITEBYTECODE would have every import compiled anew, and warmfork's own variables would have the
    stdlib's forkserver replaced by warmfork.
    """
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE" and not k.startswith("WARMFORK_")}
    path = [str(contender.tree) if contender.tree else "", str(HERE), os.environ.get("PYTHONPATH", "")]
    told = {
        COMPETITOR: contender.competitor,
        "BENCH_MODULES": " ".join(program.modules),
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "PYTHONWARNINGS": "ignore",
        **({SIZE: str(program.size)} if program.size is not None else {}),
    }
    return {**kept, **told, **contender.environment}


def make_command(program: Program, contender: Contender) -> list[str]:
    """How the contender runs the program."""
    prefix = []
    if program.by_command and contender.competitor.startswith("warmfork"):
        prefix = ["-m", "warmfork", "run", "--preload", ",".join(program.needs)]
    return [sys.executable, *prefix, str(HERE / "programs" / program.file)]


def run_program(program: Program, contender: Contender) -> dict[str, float]:
    """Run a program to its end, all that it started included, and give its phases. Raises ProgramFailed."""
    environment = make_environment(program, contender)
    process = subprocess.Popen(
        make_command(program, contender),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment, BEGUN: repr(now())},
        start_new_session=True,
    )
    try:
        # To the end of its pipes, which its servers and trackers hold too: they are gone before the next has its turn.
        out, complaints = process.communicate(timeout=DEADLINE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise ProgramFailed(f"not over, or something left running, after {DEADLINE} s") from None
    if process.returncode != 0 or not out.strip():
        last = (complaints.strip().splitlines() or ["it said nothing"])[-1]
        raise ProgramFailed(f"exit code {process.returncode}: {last}")
    said = json.loads(out.splitlines()[-1])
    if contender.tree and not str(said["warmfork"]).startswith(str(contender.tree)):
        raise ProgramFailed(f"it has used {said['warmfork']}, which does not lie in {contender.tree}")
    phases: dict[str, float] = said["phases"]
    return phases


def count_turns(programs: Sequence[Program], contenders: Mapping[str, Sequence[Contender]], rounds: int) -> int:
    """How many programs measure() runs."""
    each = [contender for program in programs if not program.list_missing() for contender in contenders[program.name]]
    return sum(min(rounds, SLOW.get(contender.label, rounds)) for contender in each)


def measure(
    result: Result,
    programs: Sequence[Program],
    contenders: Mapping[str, Sequence[Contender]],
    rounds: int,
    tick: Tick,
) -> None:
    """Put into the result what each of the programs' contenders takes; what can't be measured becomes a gap there."""
    for program in programs:
        missing = program.list_missing()
        if missing:
            result.gaps.append(Gap(program.name, "all", f"not installed: {', '.join(missing)}", failed=False))
            continue
        measure_program(result, program, contenders[program.name], rounds, tick)


def measure_program(result: Result, program: Program, contenders: Sequence[Contender], rounds: int, tick: Tick) -> None:
    """Run one program by all, round after round; the order turns by one each time. Who fails has no turn any more."""
    found: dict[tuple[str, str], list[float]] = {}
    alive = list(contenders)
    for turn in range(rounds):
        result.loads.append(round(os.getloadavg()[0], 2))
        shift = turn % len(alive) if alive else 0
        for contender in alive[shift:] + alive[:shift]:
            if turn >= SLOW.get(contender.label, rounds):
                continue
            tick(f"{program.name}: {contender.label}")
            try:
                phases = run_program(program, contender)
            except ProgramFailed as error:
                failed = contender.competitor.startswith("warmfork")
                result.gaps.append(Gap(program.name, contender.label, str(error), failed))
                alive.remove(contender)
                continue
            for phase, value in phases.items():
                found.setdefault((phase, contender.label), []).append(value)
    for (phase, label), values in found.items():
        result.measures.append(Measure(program.name, phase, label, values))
