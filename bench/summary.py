"""Prints the start times of the README, from what lies in docs/benchmarks.

python bench/summary.py 3.15 3.13
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from results import BARE, HEAP, NUMPY_PANDAS, SKLEARN, Result

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "benchmarks"
COLUMNS = {BARE: "bare", NUMPY_PANDAS: "numpy+pandas", SKLEARN: "+ sklearn", HEAP: "500 MB of objects"}
ROWS = {
    "floor": "the floor",
    "warmfork": "**warmfork**",
    "warmfork, no spares": "warmfork, `spares=0`",
    "fork": "multiprocessing: fork",
    "forkserver": "multiprocessing: forkserver",
    "spawn": "multiprocessing: spawn",
}


def format_cell(result: Result, template: str, name: str) -> str:
    found, floor = result.find(template, "paced", name), result.find(template, "paced", "floor")
    if found is None or floor is None:
        return "–"
    ms = f"{found.median_us / 1000:.1f}"
    if name == "floor":
        return ms
    text = f"{ms} ({found.median_us / floor.median_us:.2f} ×)"
    return f"**{text}**" if name == "warmfork" else text


def list_lines(result: Result, version: str) -> list[str]:
    lines = [
        f"Python {version}; start and join of a process that does nothing, 8 ms apart, median ms (and x the floor):",
        "",
        f"| | {' | '.join(COLUMNS.values())} |",
        f"|---{'|---:' * len(COLUMNS)}|",
    ]
    for name, label in ROWS.items():
        lines.append(f"| {label} | {' | '.join(format_cell(result, template, name) for template in COLUMNS)} |")
    return [*lines, ""]


def main(versions: Sequence[str]) -> int:
    for version in versions:
        path = FOLDER / f"start-{version}.json"
        if not path.exists():
            print(f"no {path}: run bench/all.py with Python {version}", file=sys.stderr)
            return 1
        print("\n".join(list_lines(Result.from_json(json.loads(path.read_text())), version)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["3.15", "3.13"]))
