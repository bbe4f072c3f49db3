"""What the programs in bench/programs share: a context of the competitor whose turn it is, the clock, and the report.

bench/rounds.py says in the environment who the competitor is. Nothing but small modules is imported here: a child of the
stdlib's spawn, or of its forkserver, loads this file too.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

FORK = "fork"
FORKSERVER = "forkserver"
PRELOADED = "forkserver, preloaded"
FROZEN = "forkserver, frozen"
SPAWN = "spawn"
LOKY = "loky"
FLOOR = "floor"
OWN = "warmfork"
STDLIB = (FORK, FORKSERVER, PRELOADED, FROZEN, SPAWN)

COMPETITOR = "BENCH_COMPETITOR"
SIZE = "BENCH_SIZE"
BEGUN = "BENCH_BEGUN"
"""Variables: who it is; a number, where a program has several sizes; when the program's interpreter was started."""

now = time.monotonic
"""The clock of all stamps. It is the same in all processes of the machine."""


class NotOnItsEngine(Exception):
    """The processes were started by somebody else than the competitor."""


def get_competitor() -> str:
    """Who is measured: one of the names above, or "warmfork" and what it does without."""
    return os.environ.get(COMPETITOR, OWN)


def is_own() -> bool:
    """Is warmfork measured, with everything or without something?"""
    return get_competitor().startswith(OWN)


def get_size(default: int) -> int:
    """The number in a program's name, as the 8 of pool-8."""
    return int(os.environ.get(SIZE, default))


def make_context(*preload: str) -> Any:
    """Give the competitor's multiprocessing context.

    warmfork's and the preloaded forkservers' have `__main__` and these modules preloaded; the plain forkserver has what
    it has where nobody says anything.
    """
    who = get_competitor()
    if is_own():
        import warmfork

        return warmfork.get_context(preload=preload)
    if who == LOKY:
        from loky.backend import get_context

        return get_context("loky_init_main")
    import multiprocessing

    context = multiprocessing.get_context(who.partition(",")[0])
    if who in (PRELOADED, FROZEN):
        context.set_forkserver_preload(["__main__", *preload, *(["freezing"] if who == FROZEN else [])])
    return context


def use_as_forkserver(*preload: str) -> str:
    """Make the competitor what libraries get that ask multiprocessing for a start method by name; give that name."""
    who = get_competitor()
    if is_own():
        import warmfork

        warmfork.install(preload=preload)
        return FORKSERVER
    if who in (PRELOADED, FROZEN):
        make_context(*preload)
    return who.partition(",")[0]


def check_exit(process: Any) -> None:
    """Raise ChildProcessError unless the process has ended with 0."""
    if process.exitcode != 0:
        raise ChildProcessError(f"{process.name} ended with {process.exitcode}")


def to_ms(begin: float, end: float) -> float:
    """What lies between two stamps, in ms."""
    return (end - begin) * 1000


def tell_rounds(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Name the phases of rounds: of the first, of the second, and the medians from the fourth on (or of the last)."""
    told = {}
    for name, some in (("first", rounds[:1]), ("second", rounds[1:2]), ("later", rounds[3:] or rounds[-1:])):
        for phase in rounds[0]:
            told[f"{name} round, {phase}"] = statistics.median(one[phase] for one in some)
    return told


def make_rounds(play: Callable[[], dict[str, float]], default: int = 9) -> dict[str, float]:
    """Play so many rounds, with a pause between them as programs have one, and name their phases.

    Two of those that import everything in each child: all their rounds are alike.
    """
    rounds = []
    for number in range(2 if get_competitor() in (SPAWN, FORKSERVER, LOKY) else default):
        if number:
            time.sleep(0.15)
        rounds.append(play())
    return tell_rounds(rounds)


def report(phases: dict[str, float], engines: Iterable[object] = ()) -> None:
    """Print what was measured, for bench/rounds.py. `engines` are Process objects, to see by whom they were started.

    A phase is in ms, unless its name ends with its unit after a comma: "USS, MB" or "worst over median, x". Raises
    NotOnItsEngine where the competitor has not started them.
    """
    for process in engines:
        made_by = type(process._popen).__module__.split(".")[0]  # type: ignore[attr-defined]
        expected = OWN if is_own() else LOKY if get_competitor() == LOKY else "multiprocessing"
        if made_by != expected:
            raise NotOnItsEngine(f"{get_competitor()} was to start {process}, and {made_by} has")
    own = sys.modules.get(OWN)
    print(json.dumps({"phases": phases, "warmfork": getattr(own, "__file__", None)}), flush=True)
