"""Draws the programs as bars: one panel for each, the median of the phase that it is about, by each competitor.

matplotlib is in the bench group only and is imported where it is used.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from catalogue import PROGRAMS, Program
from contenders import FLOOR, OWN
from results import Measure, Result

COLOURS = {FLOOR: "#9e9e9e", OWN: "#e65100"}
OTHERS = "#5c7fa3"
WIDE = 4
MISSING = "matplotlib is not installed, so no picture was drawn: install the bench group"


def draw(result: Result, target: Path) -> None:
    """Write the picture; its format follows the ending of the name."""
    if find_spec("matplotlib") is None:
        print(MISSING, file=sys.stderr)
        return
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "warmfork"  # the same numbers give the same file
    shown = []
    for program in PROGRAMS.values():
        found = [one for one in result.measures if (one.program, one.phase) == (program.name, program.headline)]
        if len(found) > 1:
            shown.append((program, found))
    if not shown:
        return
    high = -(-len(shown) // WIDE)
    figure = Figure(figsize=(4.2 * WIDE, 0.6 + 2.1 * high), layout="constrained")
    panels = figure.subplots(high, WIDE, squeeze=False)
    for panel in panels.flat[len(shown) :]:
        panel.set_axis_off()
    for panel, (program, found) in zip(panels.flat, shown, strict=False):
        draw_panel(panel, program, found)
    figure.suptitle(f"Python {result.machine['python']}, medians", fontsize=10)
    figure.savefig(target, metadata={"Date": None} if target.suffix == ".svg" else None)


def draw_panel(panel: Any, program: Program, found: list[Measure]) -> None:
    """Draw the bars of one program, the first competitor at the top."""
    phase, _, unit = program.headline.rpartition(", ")
    if unit not in ("MB", "x"):
        phase, unit = program.headline, "ms"
    panel.set_title(f"{program.what}\n{phase}, {unit}", fontsize=9)
    names = [one.contender for one in reversed(found)]
    values = [one.median for one in reversed(found)]
    bars = panel.barh(names, values, color=[COLOURS.get(name, OTHERS) for name in names])
    panel.bar_label(bars, [f" {value:,.3g}" for value in values], fontsize=7)
    panel.set_xscale("log")
    panel.set_xlim(min(values) * 0.5, max(values) * 4)
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)
