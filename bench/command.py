"""What the command lines of the benches share: options, a measured run, and what is done with its result."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from catalogue import PROGRAMS, Program, choose
from machine import describe_machine
from results import Result
from rounds import HERE, Contender, count_turns, measure
from tables import Sheet, make_console, make_markdown, make_progress, print_sheet

FOLDER = HERE.parent / "docs" / "benchmarks"
QUICK = 3
MODULES = ("numpy", "pandas", "sklearn", "torch", "joblib", "loky")


def make_parser(doc: str) -> argparse.ArgumentParser:
    """A parser with the options of all benches; the doc's first line is its description, the rest its epilog."""
    head, _, rest = doc.partition("\n")
    parser = argparse.ArgumentParser(
        description=head, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--rounds", type=int, default=10, metavar="N", help="how often each program is run by each (10)")
    add("--quick", action="store_true", help=f"{QUICK} rounds: a look, and no result")
    add(
        "--only", action="append", default=[], metavar="NAME", help="only this program; may be repeated, or have commas"
    )
    add("--list", action="store_true", help="list the programs, and run nothing")
    add("--json", action="store_true", help="print JSON in place of tables")
    add("-o", "--output", type=Path, metavar="FOLDER", help="write JSON and Markdown there")
    add("--check", action="store_true", help="exit with 1 where something is not as it should be")
    return parser


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[Program]]:
    """Read the command line, and choose the programs."""
    options = parser.parse_args(argv)
    if options.list:
        for program in PROGRAMS.values():
            print(f"{program.name:<20} {program.what}")
        sys.exit(0)
    if options.rounds < 1:
        parser.error("--rounds has to be at least 1")
    if options.quick:
        options.rounds = QUICK
    try:
        return options, choose(options.only)
    except ValueError as error:
        parser.error(str(error))


def run(programs: Sequence[Program], contenders: Mapping[str, Sequence[Contender]], rounds: int) -> Result:
    """Measure, showing a progress bar."""
    result = Result(describe_machine(MODULES), rounds)
    with make_progress() as progress:
        task = progress.add_task("", total=count_turns(programs, contenders, rounds))

        def tick(what: str) -> None:
            progress.update(task, advance=1, description=what, refresh=True)

        measure(result, programs, contenders, rounds, tick)
    return result


def show(result: Result, sheet: Sheet, options: argparse.Namespace, name: str) -> None:
    """Print the table or JSON, and write both where a folder is given."""
    text = json.dumps(result.to_json(), indent=1, ensure_ascii=False)
    if options.json:
        print(text)
    else:
        print_sheet(result, sheet, make_console())
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        major, minor = result.version
        (options.output / f"{name}-{major}.{minor}.json").write_text(text + "\n")
        (options.output / f"{name}-{major}.{minor}.md").write_text(make_markdown(result, sheet))
