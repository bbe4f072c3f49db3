"""Real programs, each run as a whole by fork, the stdlib's forkserver, spawn, loky and warmfork: `make bench`.

    python bench/all.py                         all, ten rounds: half an hour or more; writes to docs/benchmarks
    python bench/all.py --quick --only pool-8   a quick look; nothing is written unless -o says where
    python bench/all.py --only first-numpy,first-heap --rounds 20 --json >out.json
    python bench/all.py --list

Competitors take turns, each program is a fresh process. The forkserver is there three times: as people use it, preloaded
as well as it can be, and that with gc.freeze(). Run it on a machine that does nothing else, and read ratios: milliseconds
belong to the machine. One run measures one Python, the one that runs it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import command
import picture
from goals import GOALS
from rounds import Contender
from tables import make_program_sheet


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, show, write; 1 where warmfork failed, or with --check where it misses a goal."""
    options, programs = command.parse(command.make_parser(__doc__ or ""), argv)
    if not (options.quick or options.only or options.output):
        options.output = command.FOLDER
    contenders = {program.name: [Contender(who, who) for who in program.competitors] for program in programs}
    result = command.run(programs, contenders, options.rounds)
    command.show(result, make_program_sheet(result), options, "programs")
    if options.output:
        major, minor = result.version
        picture.draw(result, options.output / f"programs-{major}.{minor}.svg")
    missed = any(goal.judge(result).endswith("NO") for goal in GOALS.values())
    return 1 if any(gap.failed for gap in result.gaps) or (options.check and missed) else 0


if __name__ == "__main__":
    sys.exit(main())
