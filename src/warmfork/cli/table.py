"""The table of `warmfork ps` and `warmfork top`: as many columns as fit, numbers before titles."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from warmfork.cli.census import ProcessRecord

COLUMNS = ("ROLE", "PID", "PARENT", "STATE", "GEN", "AGE", "CPU", "CPU%", "RSS", "USS", "PSS", "STARTS", "TITLE")
LEFT = ("ROLE", "STATE", "TITLE", "PRELOADED", "MODULE", "WHAT")
LEAVE = ("PARENT", "GEN", "USS", "RSS", "STARTS", "AGE", "PSS", "CPU")
"""What goes where the terminal is narrow, in this order."""

TITLES = 0.2
"""Which part of a narrow terminal titles have before a column more is shown."""


def get_width() -> int | None:
    """Give the width of the output: None for a pipe or a file, where nothing is cut, unless COLUMNS asks for it."""
    asked = os.environ.get("COLUMNS", "")
    if asked.isdecimal() and int(asked):
        return int(asked)
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return None


def describe(
    found: Sequence[tuple[ProcessRecord, int]], percents: Mapping[int, float] | None = None
) -> list[dict[str, str]]:
    """Give the rows of the table: what each column shows."""
    rows = []
    for (record, _), branch in zip(found, draw_branches([depth for _, depth in found]), strict=True):
        row = {
            "ROLE": branch + record.role,
            "PID": show_number(record.pid),
            "PARENT": show_number(record.parent),
            "STATE": record.state,
            "GEN": show_number(record.generation),
            "AGE": show_age(record.age_s),
            "CPU": show_age(record.cpu_s),
            "RSS": show_size(record.rss_mib),
            "USS": show_size(record.uss_mib),
            "PSS": show_size(record.pss_mib),
            "STARTS": show_number(record.starts) if record.role == "template" else "",
            "TITLE": name_process(record),
        }
        if percents is not None:
            row["CPU%"] = f"{percents[record.pid]:.0f}" if record.pid in percents else "-"
        rows.append(row)
    return rows


def draw_branches(depths: Sequence[int]) -> list[str]:
    """Give what stands before each row of a tree: who has a sibling below hangs on one line with it."""
    corner, tee, line = ("`-", "|-", "| ") if is_ascii() else ("└─", "├─", "│ ")
    branches = []
    below: set[int] = set()  # the depths at which a sibling follows
    for depth in reversed(depths):
        before = "".join(line if level in below else "  " for level in range(1, depth))
        branches.append(before + (tee if depth in below else corner) if depth else "")
        below = {level for level in below if level < depth} | {depth}
    return branches[::-1]


def lay_out(rows: Sequence[Mapping[str, str]], columns: Sequence[str], width: int | None) -> list[str]:
    """Give a table as lines, the head first: columns leave, and the last is cut, where it is wider than `width`."""
    from rich.cells import cell_len

    names = [name for name in columns if not rows or name in rows[0]]
    clean = [{name: show_text(row[name]) for name in names} for row in rows]
    widths = {name: max([len(name), *(cell_len(row[name]) for row in clean)]) for name in names}
    room = None
    if width is not None:
        for leaver in (None, *LEAVE):
            if leaver in names:
                names.remove(leaver)
            room = width - sum(widths[name] + 1 for name in names[:-1])
            if room >= min(width * TITLES, widths[names[-1]]):
                break
    lines = []
    for row in ({name: name for name in names}, *clean):
        parts = [pad(row[name], widths[name], name in LEFT) for name in names[:-1]]
        line = " ".join([*parts, row[names[-1]] if room is None else cut(row[names[-1]], room)])
        lines.append((line if width is None else cut(line, width)).rstrip())
    return lines


def pad(text: str, width: int, left: bool) -> str:
    """Give text as wide as its column."""
    from rich.cells import cell_len

    space = " " * (width - cell_len(text))
    return text + space if left else space + text


def cut(text: str, width: int) -> str:
    """Give text that is no wider than this."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return text
    dots = "..." if is_ascii() else "…"
    return set_cell_size(text, max(0, width - len(dots))) + dots if width > len(dots) else ""


def is_ascii() -> bool:
    """Has the output's encoding no lines and dots?"""
    return not str(getattr(sys.stdout, "encoding", "") or "ascii").lower().startswith("utf")


def name_process(record: ProcessRecord) -> str:
    """Give a process's title without what other columns say already, and without its interpreter's folder."""
    if record.role in ("tracker", "template"):
        return record.name or record.title.removeprefix("warmfork: ")
    text = record.title.removeprefix("warmfork: ") or record.name or ""
    if record.task is not None:
        text += f" [{record.task['name']} {show_age(record.task['age_s'])}]"
    first, space, rest = text.partition(" ")
    return os.path.basename(first) + space + rest if record.role == "program" else text


def show_text(text: str) -> str:
    """Give text on one line that does nothing to the terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def show_number(number: int | None) -> str:
    """Give a number, or "-" where there is none."""
    return "-" if number is None else str(number)


def show_size(mib: float | None) -> str:
    """Give MiB in five characters."""
    if mib is None:
        return "-"
    if mib < 99.95:
        return f"{mib:.1f}M"
    return f"{mib:.0f}M" if mib < 999.5 else f"{mib / 1024:.1f}G"


def show_age(seconds: float | None) -> str:
    """Give a time in four characters, in the largest unit of which there is one."""
    if seconds is None:
        return "-"
    for length, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return f"{seconds:.0f}s" if seconds >= 10 else f"{seconds:.1f}s"
