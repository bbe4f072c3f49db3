"""Prints rows as an aligned table that is Markdown as well."""

from __future__ import annotations

from collections.abc import Sequence

from .verdict import Row, add_up

_HEAD = (
    "Python", "suite", "run", "passed", "skipped", "listed", "failed",
    "starts by warmfork", "starts by the stdlib", "left behind", "seconds",
)  # fmt: skip


def format_table(rows: Sequence[Row]) -> str:
    """Give the table, with a sum for each Python that has more than one row."""
    lines: list[Sequence[str]] = [_HEAD]
    for version in dict.fromkeys(row.version for row in rows):
        mine = [row for row in rows if row.version == version]
        lines += [_list_cells(row) for row in mine]
        if len(mine) > 1:
            lines.append(_list_cells(add_up(version, "sum", mine)))
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    rule = ["-" * width if column < 2 else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    lines.insert(1, rule)
    return "\n".join("| " + " | ".join(_align(line, widths)) + " |" for line in lines)


def _align(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    pairs = zip(line, widths, strict=True)
    return [cell.ljust(width) if column < 2 else cell.rjust(width) for column, (cell, width) in enumerate(pairs)]


def _list_cells(row: Row) -> list[str]:
    numbers = (row.run, row.passed, row.skipped, row.listed, row.failed, row.warmfork, row.stdlib, len(row.left))
    return [row.version, row.suite, *map(str, numbers), f"{row.seconds:.0f}"]
