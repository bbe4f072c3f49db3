"""Whether anything grows: start() and join() late in a program's life, beside its first hundred.

    python bench/flat.py            50,000 starts, 15,000 names, 15 templates, 2,000 children: a few minutes
    python bench/flat.py --quick    a tenth of each
    python bench/flat.py --only children --json

Each part is a program of its own. Times are medians of a hundred starts, 8 ms apart, ratios to the first hundred of the
same part (goal: at most 1.2). Memory and open fds are those of client, template and tracker, before and after.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
from contenders import check_exit, now, to_ms

import warmfork

LIMIT = 1.2
SAMPLE, APART = 100, 0.008
SIZES = {"starts": 50_000, "names": 15_000, "templates": 15, "children": 2_000}
QUICK = 10
FDS = 65_536
WARM_UP = 100
Note = Callable[[int], None]


def work() -> None:
    """What a child does."""


def start_and_join(context: Any) -> float:
    """Start a process and join it; give how long that took, in ms."""
    begin = now()
    process = context.Process(target=work)
    process.start()
    process.join()
    taken = to_ms(begin, now())
    check_exit(process)
    return taken


def sample(context: Any) -> float:
    """The median of a hundred starts, 8 ms apart."""
    times = []
    for _ in range(SAMPLE):
        time.sleep(APART)
        times.append(start_and_join(context))
    return statistics.median(times)


def look(context: Any) -> dict[str, list[int]]:
    """KiB of resident memory, and open fds, of client, template and tracker."""
    me = psutil.Process()
    template = psutil.Process(context.template_pid)
    tracker = next(one for one in me.children() if one.pid != template.pid and "tracker" in " ".join(one.cmdline()))
    named = {"client": me, "template": template, "tracker": tracker}
    return {name: [one.memory_info().rss // 1024, one.num_fds()] for name, one in named.items()}


def make_starts(context: Any, size: int, note: Note) -> list[Any]:
    """Start so many, one after the other."""
    for number in range(size):
        start_and_join(context)
        if number % 100 == 0:
            note(number)
    return []


def hold_names(context: Any, size: int, note: Note) -> list[Any]:
    """Hold so many locks: each is a name that the tracker knows."""
    held = []
    for number in range(size):
        held.append(context.Lock())
        if number % 100 == 0:
            note(number)
    return held


def hold_templates(_: Any, size: int, note: Note) -> list[Any]:
    """Have so many templates beside the one that is measured, each with a child behind it."""
    held = []
    for number in range(size):
        held.append(warmfork.get_context(name=f"other {number}"))
        start_and_join(held[-1])
        note(number)
    return held


def hold_children(context: Any, size: int, note: Note) -> list[Any]:
    """Have so many children that live, of the template that is measured."""
    held = []
    for number in range(size):
        held.append(context.Process(target=signal.pause, daemon=True))
        held[-1].start()
        note(number)
    return held


PARTS = {"starts": make_starts, "names": hold_names, "templates": hold_templates, "children": hold_children}


def play(part: str, size: int) -> None:
    """In a program of its own: measure one part, and print what was found. Numbers before it are progress."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FDS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(FDS, hard), hard))
    context = warmfork.get_context()
    for _ in range(WARM_UP):
        start_and_join(context)
    first, before = sample(context), look(context)
    held = PARTS[part](context, size, lambda number: print(number, flush=True))
    late, after = sample(context), look(context)
    for one in held:
        if part == "templates":
            one.stop_template()
        elif part == "children":
            one.kill()
    if part == "children":
        for one in held:
            one.join()
    print(json.dumps({"first": first, "late": late, "ratio": late / first, "before": before, "after": after}))


def run_part(part: str, size: int, tick: Note) -> dict[str, Any]:
    """Run the program of a part, and give what it found. Raises CalledProcessError."""
    command = [sys.executable, os.fspath(Path(__file__).resolve()), "--play", part, "--size", str(size)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        last = ""
        for last in process.stdout or ():
            if last.strip().isdigit():
                tick(int(last))
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    found: dict[str, Any] = json.loads(last)
    return found


def show(found: dict[str, dict[str, Any]], sizes: dict[str, int]) -> None:
    """Print the table."""
    from rich.table import Table
    from tables import make_console

    table = Table(title="start() and join(), median ms; KiB and fds before → after")
    for column in ("what", "first hundred", "late", "ratio", f"≤ {LIMIT}", "client", "template", "tracker"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for part, one in found.items():
        sizes_told = [
            f"{one['before'][who][0]:,} → {one['after'][who][0]:,}; {one['before'][who][1]} → {one['after'][who][1]}"
            for who in ("client", "template", "tracker")
        ]
        word = "yes" if one["ratio"] <= LIMIT else "NO"
        times = f"{one['first']:.2f}", f"{one['late']:.2f}", f"{one['ratio']:.2f}"
        table.add_row(f"{sizes[part]:,} {part}", *times, word, *sizes_told)
    make_console().print(table)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and show; 1 with --check where something is not flat."""
    from tables import make_progress

    head, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=head, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="a tenth of each")
    add("--only", action="append", choices=PARTS, help="only this part; may be repeated")
    add("--json", action="store_true", help="print JSON in place of the table")
    add("--check", action="store_true", help="exit with 1 where a ratio is over the limit")
    add("--play", choices=PARTS, help=argparse.SUPPRESS)
    add("--size", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.play:
        play(options.play, options.size)
        return 0
    parts = options.only or list(PARTS)
    sizes = {part: max(2, SIZES[part] // (QUICK if options.quick else 1)) for part in parts}
    found = {}
    with make_progress() as progress:
        for part in parts:
            task = progress.add_task(part, total=sizes[part])

            def tick(number: int, task: Any = task) -> None:
                progress.update(task, completed=number, refresh=True)

            found[part] = run_part(part, sizes[part], tick)
            progress.update(task, completed=sizes[part], refresh=True)
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        show(found, sizes)
    return 1 if options.check and any(one["ratio"] > LIMIT for one in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
