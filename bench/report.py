"""A result as tables: for the terminal with rich, and as Markdown for the README. One list of rows feeds both."""

from __future__ import annotations

from dataclasses import dataclass

from goals import Verdict, judge
from machine import tell_machine
from results import TEMPLATES, Result, Series
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rounds import MODES, PACE_NS

OWN = "warmfork"
NO_SPARES = "warmfork, no spares"
NONE = "–"
FRESH_MODES = {"first start": "first start()+join()", "whole program": "the whole program"}
PASS = "pass"


@dataclass(frozen=True)
class Sheet:
    """A titled table of texts; the first column is left-aligned, the others right."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


def show_us(us: float | None) -> str:
    return NONE if us is None else f"{us:,.0f}"


def show_ms(us: float) -> str:
    return f"{us / 1000:,.1f}"


def make_sheets(result: Result) -> list[Sheet]:
    verdicts = judge(result)
    sheets = [make_start_sheet(result, name, verdicts) for name in TEMPLATES]
    sheets.append(make_fresh_sheet(result))
    goals: list[tuple[str, ...]] = [(v.goal.what, v.measured_text(), v.goal.text(), v.word) for v in verdicts]
    sheets.append(Sheet("Goals (forkserver: the stdlib's)", ("goal", "measured", "limit", "reached"), goals))
    return [sheet for sheet in sheets if sheet.rows]


def make_start_sheet(result: Result, template: str, verdicts: list[Verdict]) -> Sheet:
    """A row for each competitor: paced and back to back side by side, ratios to the floor's medians."""
    paced, packed = MODES
    goal = next((v for v in verdicts if v.goal.template == template), None)
    rows: list[tuple[str, ...]] = []
    for one in sorted((s for s in result.series if (s.template, s.mode) == (template, paced)), key=rank):
        other = result.find(template, packed, one.competitor)
        rows.append(
            (
                one.competitor,
                show_us(one.median_us),
                show_us(one.p99_us),
                show_ratio(result, one),
                show_us(other.median_us if other else None),
                show_us(other.p99_us if other else None),
                show_ratio(result, other),
                f"≤ {goal.goal.limit:g} {goal.word}" if goal and one.competitor == NO_SPARES else "",
            )
        )
    rows += [(gap.competitor, gap.why) for gap in result.gaps if gap.template == template]
    title = f"start()+join() of a no-op process, µs, template: {template}"
    idle = f"{PACE_NS // 1_000_000} ms apart"
    return Sheet(title, ("", idle, "p99", "ratio", packed, "p99", "ratio", "goal"), rows)


def rank(series: Series) -> tuple[bool, float]:
    """The floor first, then from the fastest to the slowest."""
    return series.competitor != "floor", series.median_us


def show_ratio(result: Result, one: Series | None) -> str:
    floor = result.find(one.template, one.mode, "floor") if one else None
    return f"{one.median_us / floor.median_us:.2f}" if one and floor else NONE


def make_fresh_sheet(result: Result) -> Sheet:
    rows: list[tuple[str, ...]] = []
    for mode, what in FRESH_MODES.items():
        for one in (s for s in result.series if s.mode == mode):
            label = "python -c pass" if one.competitor == PASS else f"{what}: {one.competitor}"
            rows.append((label, show_ms(one.median_us), show_ms(one.min_us), str(one.n)))
    for one in (s for s in result.series if s.mode == "import"):
        rows.append((f"import {one.competitor} adds", show_ms(one.median_us), NONE, str(one.n)))
    rows += [(gap.competitor, gap.why) for gap in result.gaps if gap.template == "first start"]
    return Sheet("A fresh program, ms", ("", "median", "least", "n"), rows)


def make_progress(console: Console) -> Progress:
    """A progress bar, on terminals only. It is redrawn when it is told to, between turns, and never during one."""
    columns = (TextColumn("{task.description:<42}"), BarColumn(20), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, auto_refresh=False, disable=not console.is_terminal)


def print_result(result: Result, console: Console) -> None:
    console.print(tell_machine(result.machine), style="dim", highlight=False)
    for sheet in make_sheets(result):
        table = Table(
            title=sheet.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1)
        )
        for number, column in enumerate(sheet.columns):
            table.add_column(column, justify="right" if number else "left", no_wrap=True)
        remarks = []
        for row in sheet.rows:
            if len(row) == 2:
                remarks.append(f"{row[0] or 'all'}: {row[1]}")
                continue
            table.add_row(*map(escape, row), style=choose_style(row))
        console.print()
        if table.row_count:
            console.print(table)
        else:
            console.print(sheet.title, style="bold")
        for remark in remarks:
            console.print(f"  not measured: {escape(remark)}", style="yellow", highlight=False)


def choose_style(row: tuple[str, ...]) -> str:
    if row[-1].endswith("NO"):
        return "red"
    return "bold green" if row[0] == OWN else "dim" if row[0] == "floor" else ""


def make_markdown(result: Result) -> str:
    parts = [tell_machine(result.machine)]
    for sheet in make_sheets(result):
        lines = [f"**{sheet.title}**", ""]
        lines.append("| " + " | ".join(sheet.columns) + " |")
        lines.append("|---" + "|---:" * (len(sheet.columns) - 1) + "|")
        for row in sheet.rows:
            cells = row if len(row) > 2 else (row[0], f"not measured: {row[1]}", *[""] * (len(sheet.columns) - 2))
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def count_missed(result: Result) -> int:
    """How many goals were measured and not reached."""
    return sum(verdict.reached is False for verdict in judge(result))
