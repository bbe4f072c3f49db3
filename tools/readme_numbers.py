"""Fills the table of numbers in README.md from docs/benchmarks/programs-*.json, which `make bench` writes.

    python tools/readme_numbers.py            write it
    python tools/readme_numbers.py --check    1 where the table is not that of the files

Where there are no such files, the place between the two comments stays empty.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bench"))

import json  # noqa: E402

from catalogue import PROGRAMS  # noqa: E402
from contenders import FORK, FORKSERVER, OWN, PRELOADED, SPAWN  # noqa: E402
from results import Result  # noqa: E402

FOLDER = ROOT / "docs" / "benchmarks"
SHOWN = ("pool-8", "executor", "first-numpy", "noop-numpy")
COLUMNS = (OWN, FORK, PRELOADED, FORKSERVER, SPAWN)
INTRODUCTION = "Real programs, each run as a whole ([all of them](docs/benchmarks/README.md)):"
PLACE = re.compile(r"(<!-- numbers -->\n).*?(<!-- /numbers -->)", re.DOTALL)


def make_table(result: Result) -> str:
    """Give the table of one run: a row for each program, medians in ms. "" where none of them was measured."""
    names = {OWN: "warmfork", FORKSERVER: "forkserver as it is"}
    rows = []
    for program in (PROGRAMS[name] for name in SHOWN):
        found = [result.find(program.name, program.headline, who) for who in COLUMNS]
        if any(found):
            cells = [f"{one.median:.1f}" if one else "–" for one in found]
            rows.append(f"| {program.what}: {program.headline} | " + " | ".join(cells) + " |")
    if not rows:
        return ""
    head = ["| median, ms | " + " | ".join(names.get(who, who) for who in COLUMNS) + " |", "|---" * 6 + "|"]
    return "\n".join(
        [f"Python {result.machine['python']}, {result.machine.get('cpu', 'this machine')}:", "", *head, *rows]
    )


def fill(readme: str, folder: Path) -> str:
    """Give the README with the tables of all files in this folder. Raises ValueError where it has no place for them."""
    files = sorted(folder.glob("programs-*.json"))
    tables = [make_table(Result.from_json(json.loads(path.read_text()))) for path in files]
    text = "\n\n".join(filter(None, tables))
    text = f"{INTRODUCTION}\n\n{text}" if text else ""
    filled, places = PLACE.subn(lambda found: f"{found[1]}{text}\n{found[2]}" if text else found[1] + found[2], readme)
    if places != 1:
        raise ValueError(f"README.md has {places} places for the numbers, and not one")
    return filled


def main(arguments: list[str]) -> int:
    """Write, or check."""
    path = ROOT / "README.md"
    readme = path.read_text()
    filled = fill(readme, FOLDER)
    if "--check" in arguments:
        return int(filled != readme)
    path.write_text(filled)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
