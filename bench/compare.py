"""Two versions of warmfork in one run, in turns, so that a regression of over a tenth is seen.

    git worktree add /tmp/old COMMIT
    python bench/compare.py /tmp/old .                      what must not become worse; ten rounds
    python bench/compare.py /tmp/old . --only noop-bare --quick

OLD and NEW are checkouts, or virtual environments of the same Python with warmfork installed. The programs are those of
this checkout, and so is the Python with all that they import; it has to have warmfork's dependencies.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import command
from catalogue import PROGRAMS
from contenders import OWN
from results import Measure, Result
from rounds import Contender
from tables import NONE, Sheet, show_measure, tell_gaps

OLD, NEW = "old", "new"
TOLERANCE = 1.1
GUARDED = [f"{kind}-{load}" for kind in ("noop", "first") for load in ("bare", "numpy", "sklearn", "heap")]
GUARDED += ["payload", "memory"]


class NoWarmfork(Exception):
    """A folder has no warmfork."""


def find_tree(folder: Path) -> Path:
    """Give the folder that has to be on PYTHONPATH. Raises NoWarmfork."""
    library = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    places = [folder, folder / "src", folder / library, folder / ".venv" / library]
    for place in places:
        if (place / OWN / "__init__.py").exists():
            return place.resolve()
    raise NoWarmfork(f"{folder} has no warmfork, neither in src nor in {library}: give a checkout or an environment")


def judge(old: Measure | None, new: Measure | None) -> tuple[str, str]:
    """Both ratios, of the least and of the medians, and whether both say that it has become slower (or larger)."""
    if old is None or new is None:
        return NONE, "no data"
    ratios = new.least / old.least, new.median / old.median
    word = "slower" if min(ratios) > TOLERANCE else "faster" if max(ratios) < 1 / TOLERANCE else "same"
    return f"{ratios[0]:.2f} / {ratios[1]:.2f}", word


def make_sheet(result: Result) -> Sheet:
    """A row for each phase."""
    rows: list[tuple[str, ...]] = []
    for program, phase in result.list_rows():
        old, new = (result.find(program, phase, label) for label in (OLD, NEW))
        rows.append((PROGRAMS[program].what, phase, show_measure(old), show_measure(new), *judge(old, new)))
    columns = ("program", "phase", OLD, NEW, "new over old", "so it is")
    return Sheet("Old and new: least / median", columns, rows, tell_gaps(result.gaps))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and show; 1 where warmfork failed, or with --check where something is slower."""
    parser = command.make_parser(__doc__ or "")
    parser.add_argument("trees", nargs=2, type=Path, metavar="OLD NEW", help="a checkout or a virtual environment each")
    options, programs = command.parse(parser, argv)
    try:
        trees = [find_tree(folder) for folder in options.trees]
    except NoWarmfork as error:
        parser.error(str(error))
    if not options.only:
        programs = [PROGRAMS[name] for name in GUARDED]
    both = [Contender(label, OWN, tree=tree) for label, tree in zip((OLD, NEW), trees, strict=True)]
    result = command.run(programs, {program.name: both for program in programs}, options.rounds)
    sheet = make_sheet(result)
    command.show(result, sheet, options, "compare")
    slower = [f"{row[0]}, {row[1]}" for row in sheet.rows if row[-1] == "slower"]
    if slower:
        print(f"slower by over a tenth: {'; '.join(slower)}", file=sys.stderr)
    return 1 if any(gap.failed for gap in result.gaps) or (options.check and slower) else 0


if __name__ == "__main__":
    sys.exit(main())
