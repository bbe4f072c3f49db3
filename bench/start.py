"""How long a start takes: warmfork beside a bare fork (the floor) and beside the stdlib's fork, forkserver and spawn.

    python bench/start.py                              everything; a few minutes
    python bench/start.py --only starts -t bare -n 60  a quick look
    python bench/start.py --json out.json --picture out.svg --markdown

Start means: construct a Process with a no-op target, start() and join() it, in a program that has started some before
(but see `fresh`). Each competitor is a process of its own with the same imports; they take turns. Run it on a machine
that does nothing else, and read ratios to the floor rather than microseconds: those belong to the machine.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence

from command import add_output_options, show
from fresh import measure_first_starts, measure_imports
from machine import describe_machine
from report import make_progress
from results import EXTRA, HEAP, NOT_HERE, TEMPLATES, Gap, Result
from rich.console import Console
from rich.progress import Progress, TaskID
from rounds import count_ticks, find_missing, measure

COMPETITORS = ("floor", "fork", "forkserver", "spawn")
OWN = "warmfork"
NO_SPARES = "warmfork, no spares"
OPTIONAL = ("billiard", "loky")
LARGE, LARGE_N = (HEAP,), 100
"""Templates on which a start takes so long that this many have to do."""

PARTS = ("starts", "first", "import")


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    head, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=head, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("-n", type=int, default=300, help="starts of each competitor, in each mode and on each template (300)")
    add("--fresh", type=int, default=20, metavar="N", help="fresh programs, and twice as many imports (20)")
    add("-t", "--template", action="append", choices=list(TEMPLATES), help="only on this template; may be repeated")
    add("--only", action="append", choices=PARTS, help="only this part; may be repeated")
    add("--also", action="append", default=[], choices=OPTIONAL, help="one more competitor, if it is installed")
    add("--command", action="store_true", help="`python -c` programs instead of a script: no __main__ to be imported")
    add_output_options(parser)
    options = parser.parse_args(argv)
    if options.n < 1 or options.fresh < 1:
        parser.error("-n and --fresh have to be at least 1")
    return options


def run(options: argparse.Namespace, progress: Progress) -> Result:
    parts = options.only or PARTS
    result = Result(describe_machine(["numpy", "pandas", "sklearn", *options.also]))
    competitors = [*COMPETITORS, *(name for name in (OWN, *options.also) if not find_missing([name]))]
    if OWN in competitors:
        competitors.append(NO_SPARES)
    templates = {name: TEMPLATES[name] for name in options.template or TEMPLATES}
    if not options.template:
        for name in EXTRA:
            if find_missing(TEMPLATES[name]):
                del templates[name]
    absent = [name for name in (OWN, *options.also) if name not in competitors]
    if "starts" in parts:
        total = count_ticks(len(competitors), options.n) * len(templates)
        task = progress.add_task("starts", total=total)
        for name, modules in templates.items():
            result.gaps += [Gap(name, who, NOT_HERE, failed=False) for who in absent]
            measure(
                result,
                name,
                modules,
                competitors,
                n=min(options.n, LARGE_N) if name in LARGE else options.n,
                script=not options.command,
                tick=functools.partial(tick, progress, task),
            )
        progress.update(task, completed=total, description="starts")
    fresh = {"first": (measure_first_starts, options.fresh), "import": (measure_imports, 2 * options.fresh)}
    for part, (measure_fresh, n) in fresh.items():
        if part in parts:
            task = progress.add_task(part, total=n)
            measure_fresh(result, n, functools.partial(tick, progress, task))
    return result


def tick(progress: Progress, task: TaskID, what: str) -> None:
    progress.update(task, advance=1, description=what, refresh=True)


def main(argv: Sequence[str] | None = None) -> int:
    options = parse_options(argv)
    errors = Console(stderr=True)
    with make_progress(errors) as progress:
        result = run(options, progress)
    return show(result, options, errors)


if __name__ == "__main__":
    sys.exit(main())
