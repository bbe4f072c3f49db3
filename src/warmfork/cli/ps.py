"""`warmfork ps`: this user's programs with their trackers, templates and children, as a table or as JSON."""

from __future__ import annotations

import os
import sys

from warmfork.cli import fail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rich.table import Table

    from warmfork.cli.census import Entry

USAGE = """\
usage: warmfork ps [--json] [--all]

Shows your programs that use warmfork, each as a tree: its tracker, its templates, their children, and the children of
those. PARENT is the process that asked for a child; its parent in the kernel's eyes is the template. RSS is resident
memory. USS is what of it a process has for itself, and would be free without it; the rest it shares, a child with its
template and its siblings. PSS is its own and its part of what is shared: added up, they are what all take together. M
is MiB. A second table shows what each template has preloaded, and what that cost.

  --json   a list of objects instead, one for each process, in the order of the table
  --all    also the templates that have ended and left no child; those that did leave some are always shown

  warmfork ps
  warmfork ps --json | jq '.[] | select(.role == "child" and .state == "stopped") | .pid'
  watch warmfork ps

The fields of --json; null is what can't be known or does not apply:
  role        "program", "tracker", "template" or "child"
  pid, title  as in ps(1)
  name        of a child, or of the template or tracker
  parent      pid of the process that asked for this child; a template's is its tracker, a tracker's its program
  template    a child's: pid of the process that it was forked from
  state       "running", "stopped" or "zombie"; a child's also "spare": forked ahead, and not needed yet; a template's
              "preloading", "serving", "ending", "stopped" or "dead"
  generation  a template's serial number, 2 where it died once and was brought up again; its children carry it
  age_s       seconds since it was started
  rss_mib     resident memory
  uss_mib     of that, what nobody else has mapped; this and what follows are null where the kernel does not let you
              read it
  shared_mib  of that, what others have mapped too: for a child, its template and siblings
  pss_mib     uss_mib, and what is shared divided by the number of those who share it
  huge_mib    of rss_mib, what is in huge pages
  starts      a template's: how many children it has started
  preload     a template's: what it has loaded, in order, as objects with "item", "ms" and "mib"

The exit code is 0, also where nothing runs, and 2 for a wrong call."""


def main(argv: list[str]) -> int:
    if {"-h", "--help"} & {*argv}:
        print(USAGE)
        return 0
    for word in argv:
        if word not in ("--json", "--all"):
            return fail(f'warmfork ps takes no "{word}"', "it takes --json and --all; see warmfork ps --help")
    from warmfork.cli.census import Census, walk

    found = list(walk(Census().collect("--all" in argv)))
    try:
        if "--json" in argv:
            show_json(found)
        elif found:
            show_tables(found)
        else:
            print("nothing of warmfork runs")
        sys.stdout.flush()
    except BrokenPipeError:  # `| head`
        from warmfork._machine import fds

        os.dup2(fds.open_null(), 1)
    return 0


def show_json(found: list[tuple[Entry, int]]) -> None:
    """Print the objects of --json."""
    import json
    from dataclasses import fields

    def describe(entry: Entry) -> dict[str, Any]:
        return {each.name: getattr(entry, each.name) for each in fields(entry) if each.name != "below"}

    print(json.dumps([describe(entry) for entry, _ in found], indent=2))


def show_tables(found: list[tuple[Entry, int]]) -> None:
    """Print the processes as a tree, and what the templates have preloaded."""
    from rich.console import Console

    if hasattr(sys.stdout, "reconfigure"):
        # What its encoding has no letter for is shown as "?", and costs nobody the table.
        sys.stdout.reconfigure(errors="replace")
    console = Console(highlight=False)
    corner = "`-" if console.options.ascii_only else "└─"
    tree = make_table("ROLE", "TITLE", numbers=("PID", "PARENT", "GEN", "AGE", "RSS", "USS", "PSS", "STARTS"))
    for entry, depth in found:
        role = f"{'  ' * (depth - 1)}{corner}{entry.role}" if depth else entry.role
        tree.add_row(
            role,
            show_number(entry.pid),
            show_number(entry.parent),
            show_number(entry.generation),
            show_age(entry.age_s),
            show_size(entry.rss_mib),
            show_size(entry.uss_mib),
            show_size(entry.pss_mib),
            show_number(entry.starts) if entry.role == "template" else "",
            name_entry(entry),
        )
    console.print(tree)
    preloads = make_table("PRELOADED", numbers=("TEMPLATE", "MS", "MIB"))
    for entry, _ in found:
        for number, item in enumerate(entry.preload or ()):
            pid = "" if number else str(entry.pid)
            preloads.add_row(pid, f"{item['ms']:.1f}", f"{item['mib']:.1f}", show_text(item["item"]))
    if preloads.row_count:
        console.print()
        console.print(preloads)


def make_table(*texts: str, numbers: tuple[str, ...]) -> Table:
    """Make a table in which the last column gives way where the terminal is narrow: it is the only one that may wrap,
    and show_text() says that it does not."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for header in texts[:-1]:
        table.add_column(header, no_wrap=True)
    for header in numbers:
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column(texts[-1])
    return table


def name_entry(entry: Entry) -> Any:
    """Give a process's title, without what other columns say already."""
    text = entry.title.removeprefix("warmfork: ")
    if entry.role in ("tracker", "template") or entry.title.endswith("/start.py"):
        text = entry.name or text
    said = "serving" if entry.role == "template" else "running", "spare"  # a spare's title says it
    return show_text(text if entry.state in said else f"[{entry.state}] {text}")


def show_text(text: str) -> Any:
    """Give text that is shown as it is, on one line, and does nothing to the terminal."""
    from rich.text import Text

    shown = "".join(letter if letter.isprintable() else " " for letter in text)
    return Text(shown, no_wrap=True, overflow="ellipsis")


def show_number(number: int | None) -> str:
    """Give a number, or "-" where there is none."""
    return "-" if number is None else str(number)


def show_size(mib: float | None) -> str:
    """Give MiB in five characters."""
    if mib is None:
        return "-"
    if mib < 99.95:
        return f"{mib:.1f}M"
    return f"{mib:.0f}M" if mib < 999.5 else f"{mib / 1024:.1f}G"


def show_age(seconds: float | None) -> str:
    """Give a time in four characters, in the largest unit of which there is one."""
    if seconds is None:
        return "-"
    for length, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return f"{seconds:.0f}s" if seconds >= 10 else f"{seconds:.1f}s"
