"""The command line that all benches have, and what is done with a result: table, JSON, Markdown, picture.

A bench is a script of a few lines more than its `measure`:

    BENCH = Bench("rate", __doc__, measure, n=5)
    if __name__ == "__main__":
        sys.exit(main(BENCH))

`python bench/all.py` runs all of them, one after the other, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import picture
from machine import describe_machine
from report import count_missed, make_console, make_markdown, make_progress, print_result
from results import Result
from rich.console import Console
from rounds import find_missing

Tick = Callable[[str], None]
"""Says what is done next, for the progress bar. To be called between measurements, and never during one."""


@dataclass(frozen=True)
class Bench:
    """What a bench has to say of itself. `measure` puts figures and series into the result, and gaps for what can't be
    measured; `n` is how often it repeats what it does, which the user may change."""

    name: str
    doc: str | None
    measure: Callable[[Result, int, Tick], None]
    n: int
    modules: tuple[str, ...] = ("numpy", "pandas", "sklearn")  # whose versions are told


def add_output_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--json", type=Path, metavar="FILE", help="write the result there")
    add("--markdown", action="store_true", help="print Markdown instead of tables for a terminal")
    add("--picture", type=Path, metavar="FILE", help="draw the result there, an .svg or .png (needs matplotlib)")
    add("--check", action="store_true", help="exit with 1 if a goal was measured and not reached")


def show(result: Result, options: argparse.Namespace, errors: Console) -> int:
    """Print and write what was asked for, and give the exit code."""
    if options.markdown:
        print(make_markdown(result), end="")
    else:
        print_result(result, make_console())
    if options.json:
        options.json.write_text(json.dumps(result.to_json(), indent=1, ensure_ascii=False) + "\n")
    if options.picture:
        if find_missing(["matplotlib"]):
            errors.print(picture.MISSING, style="yellow")
        else:
            picture.draw([result], options.picture)
    if any(gap.failed for gap in result.gaps):
        return 1
    return 1 if options.check and count_missed(result) else 0


def main(bench: Bench, argv: Sequence[str] | None = None) -> int:
    head, _, rest = (bench.doc or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=head, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-n", type=int, default=bench.n, help=f"how often ({bench.n})")
    add_output_options(parser)
    options = parser.parse_args(argv)
    if options.n < 1:
        parser.error("-n has to be at least 1")
    errors = Console(stderr=True)
    result = Result(describe_machine(bench.modules), benches=[bench.name])
    with make_progress(errors) as progress:
        task = progress.add_task(bench.name, total=None)
        bench.measure(result, options.n, lambda what: progress.update(task, description=what, refresh=True))
    return show(result, options, errors)
