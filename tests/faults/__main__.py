"""`python -m tests.faults`: plays the fault matrix, on this Python or on several, and prints the table."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.conformance.interpreters import ROOT, find_interpreters, prepare_environment
from tests.faults import cells
from tests.faults.playing import play
from tests.faults.results import Result, format_table, read_result
from warmfork._machine import pids
from warmfork._words.spec import TECHNIQUES


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument(
        "--engine", choices=("warmfork", "stdlib", "both"), default="warmfork", help="who is to be tested"
    )
    parser.add_argument("--quick", action="store_true", help="each who at each when, once")
    parser.add_argument(
        "--python", nargs="+", default=[], metavar="X.Y", help="on these versions, or `all` that are found"
    )
    parser.add_argument(
        "--without",
        nargs="+",
        default=[],
        metavar="NAME",
        choices=TECHNIQUES,
        help="techniques of warmfork to do without (docs/switches.md): %(choices)s",
    )
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="the whole thing N times in a row")
    parser.add_argument("-k", default="", metavar="TEXT", help="only cells with this in their name")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results there")
    parser.add_argument(
        "--with",
        nargs="+",
        type=Path,
        default=[],
        dest="others",
        metavar="FILE",
        help="results of earlier runs (--json), to be shown in the same table",
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there")
    return parser.parse_args(argv)


def choose(options: argparse.Namespace, engine: str) -> list[cells.Cell]:
    """Give the cells that are to be played."""
    chosen = cells.list_cells(engine)
    if options.quick:
        quick = set(cells.list_quick_cells())
        chosen = [cell for cell in chosen if cell in quick]
    if "spares" in options.without:
        chosen = [cell for cell in chosen if cell.who != cells.SPARE]
    return [cell for cell in chosen if options.k in str(cell)]


def play_here(options: argparse.Namespace) -> Iterator[Result]:
    """Play the cells on this Python."""
    pids.become_subreaper()
    python = sys.version.split()[0]
    for engine in ("warmfork", "stdlib") if options.engine == "both" else (options.engine,):
        for cell in choose(options, engine):
            began = time.monotonic()
            faults = play(cell, engine, options.without)
            reason = cells.get_reason(cell) if engine == "warmfork" else ""
            result = Result(python, engine, cell, faults, round(time.monotonic() - began, 3), reason)
            report(result)
            yield result


def report(result: Result) -> None:
    """Say what became of a cell where somebody would want to know."""
    if result.engine == "warmfork" and not result.is_as_expected:
        lines = result.faults or [f"passes, and is listed as failing: {result.reason}"]
        print(f"OFF: {result.python} {result.cell}", *lines, sep="\n    ", flush=True)


def play_elsewhere(options: argparse.Namespace) -> Iterator[Result]:
    """Play the cells on other Pythons, one after the other."""
    found = {interpreter.name: interpreter for interpreter in find_interpreters()}
    names = list(found) if options.python == ["all"] else options.python
    missing = [name for name in names if name not in found]
    if missing:
        raise SystemExit(f"no Python {', '.join(missing)} on PATH or in pyenv; found: {', '.join(found)}")
    for name in names:
        python = prepare_environment(found[name], "warmfork")
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            command = [python, "-m", "tests.faults", "--engine", options.engine, "-k", options.k, "--json", file.name]
            command += ["--quick"] if options.quick else []
            command += ["--without", *options.without] if options.without else []
            done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
            content = Path(file.name).read_text()
        print("".join(f"{line}\n" for line in done.stdout.splitlines() if line.startswith(("OFF", "    "))), end="")
        if not content:
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}")
        yield from map(read_result, json.loads(content))


def main(argv: Sequence[str] | None = None) -> int:
    """Play, print, and give the exit status: 0 only where warmfork's cells are as they must be."""
    options = parse(argv)
    off = 0
    results: list[Result] = []
    for number in range(options.repeat):
        began = time.monotonic()
        results = list(play_elsewhere(options) if options.python else play_here(options))
        if options.repeat > 1:
            print(f"round {number + 1} of {options.repeat}")
        print(format_table(results))
        mine = [result for result in results if result.engine == "warmfork"]
        bad = sum(not result.is_as_expected for result in mine)
        listed = sum(bool(result.reason) for result in mine)
        off += bad
        seconds = time.monotonic() - began
        print(
            f"\n{len(results)} cells played in {seconds:.0f} s; of warmfork's {len(mine)}, {bad} off, {listed} listed"
        )
    if options.json:
        options.json.write_text(json.dumps([result.as_json() for result in results]), encoding="utf-8")
    if options.markdown:
        earlier = [read_result(value) for file in options.others for value in json.loads(file.read_text())]
        options.markdown.write_text(f"{format_table(results + earlier)}\n", encoding="utf-8")
    return 1 if off else 0


if __name__ == "__main__":
    sys.exit(main())
