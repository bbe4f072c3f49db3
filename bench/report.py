"""A result as tables: for the terminal with rich, and as Markdown for the README. One list of rows feeds both."""

from __future__ import annotations

from dataclasses import dataclass, field

from goals import Verdict, end_if_hung
from machine import tell_machine
from results import TEMPLATES, Figure, Result, Series
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rounds import MODES, PACE_NS

OWN = "warmfork"
NONE = "–"
FRESH_MODES = {"first start": "first start()+join()", "whole program": "the whole program"}
PASS = "pass"


@dataclass(frozen=True)
class Sheet:
    """A titled table of texts; the first column is left-aligned, the others right. Remarks say what is missing, and why."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    remarks: list[str] = field(default_factory=list)


def show_us(us: float | None) -> str:
    return NONE if us is None else f"{us:,.0f}"


def show_ms(us: float) -> str:
    return f"{us / 1000:,.1f}"


def make_sheets(result: Result) -> list[Sheet]:
    verdicts = end_if_hung(result)
    sheets = [make_start_sheet(result, name, verdicts) for name in TEMPLATES]
    sheets.append(make_fresh_sheet(result))
    sheets += [make_figure_sheet(result, name) for name in dict.fromkeys(figure.sheet for figure in result.figures)]
    known = {*TEMPLATES, "first start", *(figure.sheet for figure in result.figures)}
    for name in dict.fromkeys(gap.template for gap in result.gaps if gap.template not in known):
        sheets.append(make_figure_sheet(result, name))
    sheets.append(make_goal_sheet(verdicts))
    return [sheet for sheet in sheets if sheet.rows or sheet.remarks]


def list_remarks(result: Result, template: str) -> list[str]:
    return [f"{gap.competitor or 'all'}: {gap.why}" for gap in result.gaps if gap.template == template]


def make_goal_sheet(verdicts: list[Verdict]) -> Sheet:
    goals: list[tuple[str, ...]] = [(v.goal.what, v.measured_text(), v.goal.text(), v.word) for v in verdicts]
    return Sheet("Goals (forkserver: the stdlib's)", ("goal", "measured", "limit", "reached"), goals)


def make_figure_sheet(result: Result, name: str) -> Sheet:
    """A row for each competitor, a column for each figure."""
    figures = [figure for figure in result.figures if figure.sheet == name]
    whats = list(dict.fromkeys(figure.what for figure in figures))
    units = {figure.what: figure.unit for figure in figures}
    rows: list[tuple[str, ...]] = []
    for competitor in dict.fromkeys(figure.competitor for figure in figures):
        found = [result.find_figure(name, what, competitor) for what in whats]
        rows.append((competitor, *(show_figure(figure) for figure in found)))
    columns = ("", *(f"{what}, {units[what]}" if units[what] else what for what in whats))
    return Sheet(name, columns, rows, list_remarks(result, name))


def show_figure(figure: Figure | None) -> str:
    if figure is None:
        return NONE
    return f"{figure.value:,.0f}" if abs(figure.value) >= 100 else f"{figure.value:,.3g}"


def make_start_sheet(result: Result, template: str, verdicts: list[Verdict]) -> Sheet:
    """A row for each competitor: paced and back to back side by side, ratios to the floor's medians."""
    paced, packed = MODES
    goals = {v.goal.row: v for v in verdicts}
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
                show_goal(goals.get((template, one.competitor))),
            )
        )
    title = f"start()+join() of a no-op process, µs, template: {template}"
    idle = f"{PACE_NS // 1_000_000} ms apart"
    columns = ("", idle, "p99", "ratio", packed, "p99", "ratio", "goal")
    return Sheet(title, columns, rows, list_remarks(result, template))


def show_goal(verdict: Verdict | None) -> str:
    return f"≤ {verdict.goal.limit:g} {verdict.word}" if verdict else ""


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
    return Sheet("A fresh program, ms", ("", "median", "least", "n"), rows, list_remarks(result, "first start"))


def make_progress(console: Console) -> Progress:
    """A progress bar, on terminals only. It is redrawn when it is told to, between turns, and never during one."""
    columns = (TextColumn("{task.description:<42}"), BarColumn(20), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, auto_refresh=False, disable=not console.is_terminal)


def make_console() -> Console:
    """Wide where nobody's terminal says how wide: a log keeps whole lines."""
    console = Console()
    return console if console.is_terminal else Console(width=120)


def print_result(result: Result, console: Console) -> None:
    console.print(tell_machine(result.machine), style="dim", highlight=False)
    for sheet in make_sheets(result):
        print_sheet(sheet, console)


def print_sheet(sheet: Sheet, console: Console) -> None:
    console.print()
    console.print(sheet.title, style="bold", highlight=False)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1))
    for number, column in enumerate(sheet.columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in sheet.rows:
        table.add_row(*map(escape, row), style=choose_style(row))
    if table.row_count:
        console.print(table)
    for remark in sheet.remarks:
        console.print(f"  not measured: {escape(remark)}", style="yellow", highlight=False)


def choose_style(row: tuple[str, ...]) -> str:
    if row[-1].endswith("NO"):
        return "red"
    return "bold green" if row[0] == OWN else "dim" if row[0] == "floor" else ""


def make_markdown(result: Result) -> str:
    parts = [tell_machine(result.machine), *map(make_markdown_sheet, make_sheets(result))]
    return "\n\n".join(parts) + "\n"


def make_markdown_sheet(sheet: Sheet) -> str:
    lines = [f"**{sheet.title}**", ""]
    if sheet.rows:
        lines.append("| " + " | ".join(sheet.columns) + " |")
        lines.append("|---" + "|---:" * (len(sheet.columns) - 1) + "|")
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in sheet.rows]
    if sheet.remarks:
        lines += ["", *(f"* not measured: {remark}" for remark in sheet.remarks)]
    return "\n".join(lines)


def count_missed(result: Result) -> int:
    """How many goals were measured and not reached."""
    return sum(verdict.reached is False for verdict in end_if_hung(result))
