"""Draws the processes of a program with a Pool of four, as they were at one moment: docs/_static/tree.svg.

    python tools/draw_tree.py [FILE]

The program is started here, and its processes are read from `warmfork ps --json`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "_static" / "tree.svg"
WORKERS = 4
PROGRAM = f"""
import sys, warmfork
if __name__ == "__main__":
    with warmfork.get_context(preload=["numpy"], name="app").Pool({WORKERS}) as pool:
        pool.map(abs, range({WORKERS}))
        print("ready", flush=True)
        sys.stdin.read()
"""
COLOURS = {"program": "#455a64", "tracker": "#00838f", "template": "#e65100", "child": "#2e7d32"}
NOTES = {
    "program": "your program",
    "tracker": "watches and cleans up",
    "template": "numpy loaded, forks",
    "child": "a worker",
}
WIDTH, HEIGHT, GAP, LEFT, TOP = 190, 58, 34, 12, 12


def look() -> list[dict[str, Any]]:
    """Start the program, and give its processes as `warmfork ps` tells them."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WARMFORK_")}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=kept
    ) as program:
        assert program.stdin is not None and program.stdout is not None
        if program.stdout.readline() != "ready\n":
            raise RuntimeError("the program did not come up")
        shown = subprocess.run(
            [sys.executable, "-m", "warmfork", "ps", "--json"], stdout=subprocess.PIPE, check=True, text=True
        )
        program.stdin.close()
    return choose(json.loads(shown.stdout), program.pid)


def choose(rows: list[dict[str, Any]], pid: int) -> list[dict[str, Any]]:
    """Give the program with this pid and all below it."""
    known = {pid}
    chosen = [row for row in rows if row["pid"] == pid]
    for _ in range(3):
        for row in rows:
            above = {row["parent"], row["template"]} & known
            if above and row["pid"] not in known:
                known.add(row["pid"])
                chosen.append(row)
    return chosen


def draw_box(row: dict[str, Any], at: float, down: float) -> list[str]:
    """Give the lines of one process."""
    memory = f", {row['uss_mib']:.0f} MB" if row["uss_mib"] is not None and row["role"] != "program" else ""
    return [
        f'<rect x="{at}" y="{down}" width="{WIDTH}" height="{HEIGHT}" rx="7" fill="{COLOURS[row["role"]]}"/>',
        f'<text x="{at + WIDTH / 2}" y="{down + 25}" font-size="15" font-weight="bold">{escape(row["role"])}</text>',
        f'<text x="{at + WIDTH / 2}" y="{down + 44}" font-size="11.5">{NOTES[row["role"]]}{memory}</text>',
    ]


def draw(rows: list[dict[str, Any]]) -> str:
    """Give the picture: the three that are one below the other, and a row of workers."""
    chain = [next(row for row in rows if row["role"] == role) for role in ("program", "tracker", "template")]
    workers = [row for row in rows if row["role"] == "child"][:WORKERS]
    wide = LEFT * 2 + len(workers) * WIDTH + (len(workers) - 1) * 16
    high = TOP * 2 + 4 * HEIGHT + 3 * GAP
    middle = wide / 2
    looks = 'font-family="sans-serif" text-anchor="middle" fill="#fff"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" height="{high}" {looks}>',
        "<title>A program with a Pool of four on warmfork</title>",
    ]
    for number, row in enumerate(chain):
        down = TOP + number * (HEIGHT + GAP)
        if number:
            lines.append(draw_line(middle, down - GAP, middle, down))
        lines += draw_box(row, middle - WIDTH / 2, down)
    down = TOP + 3 * (HEIGHT + GAP)
    for number, row in enumerate(workers):
        at = LEFT + number * (WIDTH + 16)
        lines.append(draw_line(middle, down - GAP, at + WIDTH / 2, down))
        lines += draw_box(row, at, down)
    return "\n".join([*lines, "</svg>"]) + "\n"


def draw_line(from_x: float, from_y: float, to_x: float, to_y: float) -> str:
    """Give a line from a parent to its child."""
    return f'<line x1="{from_x}" y1="{from_y}" x2="{to_x}" y2="{to_y}" stroke="#90a4ae" stroke-width="2"/>'


if __name__ == "__main__":
    Path(sys.argv[1] if sys.argv[1:] else TARGET).write_text(draw(look()))
