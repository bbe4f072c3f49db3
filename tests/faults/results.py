"""What became of the cells, as values, as JSON, and as the tables of docs/reliability.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tests.faults.cells import Cell

SHORT = (
    (r"was said to have ended with 255 when|was said to be dead", "255 for a child that lives"),
    (r"was said to have ended with", "a wrong exit code"),
    (r"was refused", "a start fails"),
    (r"the daemon of a dead program", "its daemons live on"),
    (r"left: /dev/shm", "names left in /dev/shm"),
    (r"left: tmp", "files left in /tmp"),
    (r"left: process", "processes left"),
    (r"late$|ended: not within", "an answer that does not come"),
    (r"next start ended", "the next start fails"),
    (r"fds more", "fds left"),
    (r"zombie", "zombies"),
    (
        r"the program that was told to finish|the program at its end|the program ended with",
        "the program does not end well",
    ),
    (r"running: not within|started: not within", "a start hangs"),
)
"""What the faults of a cell come down to."""


class Result(NamedTuple):
    """One cell that was played."""

    python: str
    engine: str
    cell: Cell
    faults: list[str]
    seconds: float
    reason: str = ""  # why it is known to fail

    @property
    def is_as_expected(self) -> bool:
        """Does it pass, or fail as it is known to?"""
        return bool(self.faults) == bool(self.reason)

    def as_json(self) -> dict[str, object]:
        """Give it as JSON takes it."""
        return {**self._asdict(), "cell": list(self.cell)}


def read_result(value: dict[str, object]) -> Result:
    """Give it back."""
    return Result(**{**value, "cell": Cell(*value["cell"])})  # type: ignore[arg-type, misc]


def shorten(faults: Iterable[str]) -> list[str]:
    """Say in few words what is wrong."""
    found = []
    for fault in faults:
        found.append(next((words for pattern, words in SHORT if re.search(pattern, fault)), fault))
    return list(dict.fromkeys(found))


def format_table(results: Sequence[Result]) -> str:
    """Give one line for each who and how: for each engine, how many of its cells pass, and what is wrong in the others."""
    columns = list(dict.fromkeys((result.engine, result.python) for result in results))
    rows = list(dict.fromkeys((result.cell.who, result.cell.how) for result in results))
    head = ["who dies", "how", *(f"{engine} {python}" for engine, python in columns)]
    wrong = any(result.faults for result in results)
    lines = [head + (["what is wrong"] if wrong else [])]
    for who, how in sorted(rows, key=lambda row: [result.cell.who for result in results].index(row[0])):
        line, words = [who, how], []
        for engine, python in columns:
            mine = [
                result
                for result in results
                if (result.engine, result.python, result.cell.who, result.cell.how) == (engine, python, who, how)
            ]
            passed = sum(not result.faults for result in mine)
            line.append(f"{passed} of {len(mine)}" if mine else "–")
            words += shorten(fault for result in mine for fault in result.faults)
        lines.append(line + (["; ".join(dict.fromkeys(words))] if wrong else []))
    total = ["all", ""]
    for engine, python in columns:
        mine = [result for result in results if (result.engine, result.python) == (engine, python)]
        total.append(f"{sum(not result.faults for result in mine)} of {len(mine)}")
    lines.append(total + ([""] if wrong else []))
    rule = ["---" if number < 2 or number >= 2 + len(columns) else "---:" for number in range(len(lines[0]))]
    lines.insert(1, rule)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
