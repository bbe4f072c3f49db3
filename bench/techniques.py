"""What each technique of docs/switches.md gives in real programs: warmfork with all, and without each, in turns.

    python bench/techniques.py                                writes to docs/benchmarks; an hour
    python bench/techniques.py --quick --only pool-8,noop-bare --without spares --without helper

A technique that gives less than 3 % in all of the programs has no place.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import command
from catalogue import PROGRAMS
from contenders import OWN
from results import Result
from rounds import Contender
from tables import Sheet, show_measure, tell_gaps

from warmfork._words.spec import TECHNIQUES

WORTH = 1.03


def list_worth(result: Result, without: str) -> list[str]:
    """Where the technique gives over 3 %, by the least and by the median: its best five, the best first."""
    gains = []
    for program, phase in result.list_rows():
        if phase.endswith(", x"):  # a ratio of two other phases
            continue
        having, lacking = result.find(program, phase, OWN), result.find(program, phase, name_contender(without))
        if having and lacking:
            gain = min(lacking.least / having.least, lacking.median / having.median)
            gains.append((gain, f"{PROGRAMS[program].what}, {phase} {gain:.2f} ×"))
    return [told for gain, told in sorted(gains, reverse=True) if gain > WORTH][:5]


def name_contender(without: str) -> str:
    """What the table calls warmfork without a technique."""
    return f"without {without}"


def make_sheet(result: Result, names: Sequence[str]) -> Sheet:
    """A row for each phase, and a remark for each technique."""
    contenders = [OWN, *map(name_contender, names)]
    rows: list[tuple[str, ...]] = []
    for program, phase in result.list_rows():
        cells = []
        for label in contenders:
            found, with_all = result.find(program, phase, label), result.find(program, phase, OWN)
            ratio = f" ({found.median / with_all.median:.2f})" if found and with_all and label != OWN else ""
            cells.append(show_measure(found) + ratio)
        rows.append((PROGRAMS[program].what, phase, *cells))
    remarks = [f"{name}: {'; '.join(list_worth(result, name)) or 'nothing over 3 %'}" for name in names]
    title = "With all techniques, and without each: least / median (median over that with all)"
    return Sheet(title, ("program", "phase", *contenders), rows, remarks + tell_gaps(result.gaps))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, show, write; 1 where warmfork failed."""
    parser = command.make_parser(__doc__ or "")
    parser.add_argument(
        "--without", action="append", choices=TECHNIQUES, help="only this technique; may be repeated (all of them)"
    )
    options, programs = command.parse(parser, argv)
    names = options.without or TECHNIQUES
    if not (options.quick or options.only or options.without or options.output):
        options.output = command.FOLDER
    programs = [program for program in programs if OWN in program.competitors]
    all_on = Contender(OWN, OWN)
    lacking = [Contender(name_contender(name), f"{OWN}, without {name}", {"WARMFORK_WITHOUT": name}) for name in names]
    result = command.run(programs, {program.name: [all_on, *lacking] for program in programs}, options.rounds)
    command.show(result, make_sheet(result, names), options, "techniques")
    return 1 if any(gap.failed for gap in result.gaps) else 0


if __name__ == "__main__":
    sys.exit(main())
