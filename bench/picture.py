"""Draws results as bars: `python bench/picture.py docs/benchmarks/start-*.json -o docs/benchmarks/start.svg`.

One row of panels for each result (each version of Python). Of start times, one column for each template: paced medians,
divided by the floor. Of figures, one column for each that a table has and that compares somebody with somebody.
matplotlib is in the bench group only and is imported where it is used.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from pathlib import Path
from typing import Any

from results import TEMPLATES, Result
from rounds import find_missing

COLOURS = {"floor": "#9e9e9e", "warmfork": "#e65100", "warmfork, no spares": "#ffb74d"}
OTHERS = "#5c7fa3"
MODE = "paced"
MISSING = "matplotlib is not installed, so no picture was drawn: install the bench group"


def draw(results: list[Result], target: Path) -> None:
    """Writes the picture; its format follows the ending of the name."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "warmfork"  # the same numbers give the same file
    templates = [name for name in TEMPLATES if any(series.template == name for one in results for series in one.series)]
    columns: list[Any] = list(templates)
    drawer: Any = draw_panel
    title = "start()+join() of a no-op process, 8 ms between starts, median as a multiple of a bare fork"
    if not columns:
        columns = list_comparisons(results)
        drawer, title = draw_figure, " / ".join(dict.fromkeys(sheet for sheet, _ in columns))
    if not columns:
        return
    figure = Figure(figsize=(4.2 * len(columns), 0.9 + 2.1 * len(results)), layout="constrained")
    panels = figure.subplots(len(results), len(columns), squeeze=False)
    for row, result in zip(panels, results, strict=True):
        for panel, column in zip(row, columns, strict=True):
            drawer(panel, result, column)
    figure.suptitle("\n".join(textwrap.wrap(title, 26 * len(columns))), fontsize=10)
    figure.savefig(target, metadata={"Date": None} if target.suffix == ".svg" else None)


def list_comparisons(results: list[Result]) -> list[tuple[str, str]]:
    """Lists the columns of all tables that show more than one competitor, and more than nothing."""
    found: dict[tuple[str, str], list[float]] = {}
    for figure in results[0].figures:
        found.setdefault((figure.sheet, figure.what), []).append(figure.value)
    return [column for column, values in found.items() if len(values) > 1 and any(values)]


def draw_figure(panel: Any, result: Result, column: tuple[str, str]) -> None:
    _, what = column
    shown = [f for f in reversed(result.figures) if (f.sheet, f.what) == column]
    unit = f" {shown[0].unit}" if shown and shown[0].unit else ""
    panel.set_title(f"{what}, Python {result.machine['python']}", fontsize=9)
    if not shown:
        panel.text(0.5, 0.5, "not measured", ha="center", transform=panel.transAxes)
        panel.set_axis_off()
        return
    names = [f.competitor for f in shown]
    values = [f.value for f in shown]
    bars = panel.barh(names, values, color=[COLOURS.get(name, OTHERS) for name in names])
    panel.bar_label(bars, [f" {value:,.3g}{unit}" for value in values], fontsize=7)
    panel.set_xlim(min(0.0, *values), max(1e-9, *values) * 1.35)
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)


def draw_panel(panel: Any, result: Result, template: str) -> None:
    floor = result.find(template, MODE, "floor")
    shown = [s for s in result.series if (s.template, s.mode) == (template, MODE)]
    shown.sort(key=lambda series: series.median_us, reverse=True)
    panel.set_title(f"{template}, Python {result.machine['python']}", fontsize=9)
    if floor is None:
        panel.text(0.5, 0.5, "not measured", ha="center", transform=panel.transAxes)
        panel.set_axis_off()
        return
    names = [s.competitor for s in shown]
    ratios = [s.median_us / floor.median_us for s in shown]
    bars = panel.barh(names, ratios, color=[COLOURS.get(name, OTHERS) for name in names])
    labels = [f" {format_ratio(r)} ({s.median_us / 1000:.1f} ms)" for r, s in zip(ratios, shown, strict=True)]
    panel.bar_label(bars, labels, fontsize=7)
    panel.set_xscale("log")
    panel.set_xlim(min(0.5, *ratios) * 0.6, max(ratios) * 12)
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)


def format_ratio(ratio: float) -> str:
    return f"{ratio:.1f}" if ratio >= 1 else f"{ratio:.2g}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", nargs="+", type=Path, help="JSON files that one bench wrote")
    parser.add_argument("-o", "--output", type=Path, required=True, help="an .svg or .png file")
    options = parser.parse_args()
    if find_missing(["matplotlib"]):
        print(MISSING, file=sys.stderr)
        return 1
    draw([Result.from_json(json.loads(path.read_text())) for path in options.results], options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
