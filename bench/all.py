"""Runs every bench, one after the other, and says which goals are reached: `make bench`.

    python bench/all.py                   everything: about ten minutes; writes to docs/benchmarks
    python bench/all.py rate memory       only these, and the goals that they decide
    python bench/all.py --goals           runs nothing: the goals, from what lies in the folder

Each bench writes NAME-X.Y.json and NAME-X.Y.md for the Python X.Y that runs it; the pictures are drawn from all JSON
files that are there, those of other Pythons included.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import picture
from goals import end_if_hung
from report import make_console, make_goal_sheet, make_markdown_sheet, print_sheet
from results import Result, merge
from rounds import HERE, find_missing

BENCHES = ("start", "line", "pace", "rate", "memory", "payload", "alive")
FOLDER = HERE.parent / "docs" / "benchmarks"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    head, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=head, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("benches", nargs="*", metavar="BENCH", help=f"of {', '.join(BENCHES)}; all of them by default")
    parser.add_argument("-o", "--output", type=Path, default=FOLDER, metavar="FOLDER", help=f"({FOLDER})")
    parser.add_argument("--goals", action="store_true", help="show the goals, and run nothing")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a goal was measured and not reached")
    options = parser.parse_args(argv)
    for name in options.benches:
        if name not in BENCHES:
            parser.error(f'there is no bench "{name}": there are {", ".join(BENCHES)}')
    return options


def run(name: str, folder: Path) -> int:
    """Run one bench, showing its progress; its tables go to the terminal and to its Markdown file."""
    command = [sys.executable, str(HERE / f"{name}.py"), "--json", str(folder / f"{name}-{VERSION}.json"), "--markdown"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.stdout:
        (folder / f"{name}-{VERSION}.md").write_text(done.stdout)
        print(done.stdout, flush=True)
    return done.returncode


def read(folder: Path, name: str, version: str) -> Result | None:
    path = folder / f"{name}-{version}.json"
    return Result.from_json(json.loads(path.read_text())) if path.exists() else None


def draw(folder: Path, names: Sequence[str]) -> None:
    """Draw each bench of these, all Pythons in one picture."""
    for name in names:
        paths = sorted(folder.glob(f"{name}-*.json"))
        if paths:
            picture.draw([Result.from_json(json.loads(path.read_text())) for path in paths], folder / f"{name}.svg")


def main(argv: Sequence[str] | None = None) -> int:
    options = parse_options(argv)
    names = options.benches or BENCHES
    failed = []
    if not options.goals:
        options.output.mkdir(parents=True, exist_ok=True)
        failed = [name for name in names if run(name, options.output)]
        if find_missing(["matplotlib"]):
            print(picture.MISSING, file=sys.stderr)
        else:
            draw(options.output, names)
    found = [result for name in names if (result := read(options.output, name, VERSION)) is not None]
    if not found:
        print(f"no results of Python {VERSION} in {options.output}: run this without --goals", file=sys.stderr)
        return 1
    verdicts = end_if_hung(merge(found))
    print_sheet(make_goal_sheet(verdicts), make_console())
    if not options.benches:
        (options.output / f"goals-{VERSION}.md").write_text(make_markdown_sheet(make_goal_sheet(verdicts)) + "\n")
    for name in failed:
        print(f"bench {name} did not measure all that it should: its table says what", file=sys.stderr)
    return 1 if failed or (options.check and any(verdict.reached is False for verdict in verdicts)) else 0


if __name__ == "__main__":
    sys.exit(main())
