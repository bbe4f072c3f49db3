"""Results as tables: for the terminal with rich, and as Markdown. One list of rows feeds both."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

from catalogue import PROGRAMS
from contenders import FLOOR, LOKY, OWN, STDLIB
from goals import GOALS
from machine import tell_machine
from results import Gap, Measure, Result
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

NONE = "–"


@dataclass(frozen=True)
class Sheet:
    """A table of texts; the first two columns are left-aligned, the others right. Remarks say what is missing, and why."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    remarks: list[str] = field(default_factory=list)


def show_number(value: float) -> str:
    """A number as short as it may be."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def show_measure(measure: Measure | None) -> str:
    """Least and median."""
    return NONE if measure is None else f"{show_number(measure.least)} / {show_number(measure.median)}"


def make_program_sheet(result: Result) -> Sheet:
    """A row for each phase of each program, a column for each competitor, and the goals."""
    contenders = [one for one in (FLOOR, *STDLIB, LOKY, OWN) if one in result.list_contenders()]
    rows: list[tuple[str, ...]] = []
    for program, phase in result.list_rows():
        goal = GOALS.get((program, phase))
        cells = [show_measure(result.find(program, phase, one)) for one in contenders]
        told = (goal.tell(result.version), goal.judge(result)) if goal else ("", "")
        rows.append((PROGRAMS[program].what, phase, *cells, *told))
    columns = ("program", "phase", *contenders, "goal", "reached")
    return Sheet("Real programs: least / median, in ms where no unit is named", columns, rows, tell_gaps(result.gaps))


def tell_gaps(gaps: list[Gap]) -> list[str]:
    """What was not measured, as sentences."""
    return [f"not measured: {gap.program}, {gap.contender}: {gap.why}" for gap in gaps]


def tell_run(result: Result) -> str:
    """Where and how it was measured."""
    loads = result.loads or [0.0]
    load = f"load {min(loads)} / {statistics.median(loads):.2f} / {max(loads)} (least, median, worst)"
    return f"{tell_machine(result.machine)} {result.rounds} rounds, {load} at their beginnings."


def make_markdown(result: Result, sheet: Sheet) -> str:
    """A page with one table."""
    lines = [tell_run(result), "", f"**{sheet.title}**", "", "| " + " | ".join(sheet.columns) + " |"]
    lines.append("|---|---" + "|---:" * (len(sheet.columns) - 2) + "|")
    last = ""
    for first, *rest in sheet.rows:
        cells = ["" if first == last else first, *rest]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        last = first
    lines += ["", *(f"* {remark}" for remark in sheet.remarks)] if sheet.remarks else []
    return "\n".join(lines) + "\n"


def print_sheet(result: Result, sheet: Sheet, console: Console) -> None:
    """Show a table, a block for each program."""
    console.print(tell_run(result), style="dim", highlight=False)
    console.print(sheet.title, style="bold", highlight=False)
    for first in dict.fromkeys(row[0] for row in sheet.rows):
        rows = [row[1:] for row in sheet.rows if row[0] == first]
        shown = [n for n in range(len(rows[0])) if any(row[n] not in ("", NONE) for row in rows)]
        table = Table(box=box.SIMPLE_HEAD, title=first, title_justify="left", title_style="bold")
        for n in shown:
            table.add_column(sheet.columns[n + 1], justify="right" if n else "left")
        for row in rows:
            style = "red" if row[-1].endswith(("NO", "slower")) else ""
            table.add_row(*(escape(row[n]) for n in shown), style=style)
        console.print(table)
    for remark in sheet.remarks:
        console.print(escape(remark), style="yellow", highlight=False)


def make_console() -> Console:
    """Wide where nobody's terminal says how wide: a log keeps whole lines."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def make_progress() -> Progress:
    """A progress bar on stderr, on terminals only. It is redrawn when it is told to, between turns and never in one."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description:<44}"),
        BarColumn(20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=True, auto_refresh=False, disable=not console.is_terminal)
