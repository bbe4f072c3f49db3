"""`warmfork ps`: this user's programs with their trackers, templates and children, as a table or as JSON."""

from __future__ import annotations

import sys

from warmfork.cli.command import Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from warmfork.cli.census import ProcessRecord

COMMAND = Command(
    "ps",
    "[--json] [--all]",
    """
    Shows your programs that use warmfork, each as a tree: its tracker, its templates, their children, and the children
    of those. PARENT is the process that asked for a child; its parent in the kernel's eyes is the template. CPU is the
    time that a process has computed. RSS is its resident memory. USS is what of it the process has for itself: so much
    would be free without it. It shares the rest: a child with its template and its siblings. PSS is its own and its
    part of what is shared: added up, they are what all take together. M is MiB. Behind the title of an Executor's
    worker is the task that it runs, and for how long. A second table shows what each template has preloaded, and what
    that cost.

    On a narrow terminal columns are left out, and titles are cut. In a pipe or a file nothing is: all columns are
    there, and all titles are whole.
    """,
    [
        Option("--json", "a list of objects instead, one for each process, in the order of the table"),
        Option("--all", "also the templates that have ended and left no child; those with children are always shown"),
    ],
    [
        ("warmfork ps", "the table"),
        ("warmfork ps | grep nightly", "one program; lines are whole in a pipe"),
        ("warmfork ps --json | jq '.[] | select(.state == \"stopped\") | .pid'", "the pids of what is stopped"),
    ],
    [("0", "all is well, also where nothing runs"), ("1", "the output can't be written"), ("2", "a wrong call")],
    more="""\
The fields of --json; null is what can't be known or does not apply:
  role        "program", "tracker", "template" or "child"
  pid, title  as in ps(1)
  name        of a child, or of the template or tracker
  parent      pid of the process that asked for this child; a template's is its
              tracker, a tracker's its program
  template    a child's: pid of the process that it was forked from
  state       "running", "stopped" or "zombie"; a child's also "spare": forked
              ahead, and not needed yet; a template's "preloading", "serving",
              "ending", "stopped" or "dead"
  generation  a template's serial number, 2 where it died once and was brought
              up again; its children carry it
  age_s       seconds since it was started
  cpu_s       seconds that it has computed
  rss_mib     resident memory
  uss_mib     of that, what nobody else has mapped; this and what follows are
              null where the kernel does not let you read it
  shared_mib  of that, what others have mapped too: for a child, its template
              and siblings
  pss_mib     uss_mib, and what is shared divided by the number of those who
              share it
  huge_mib    of rss_mib, what is in huge pages
  starts      a template's: how many children it has started
  task        of an Executor's worker: what it runs now, as an object with
              "name" (of the function, or as with_options() says) and "age_s"
  preload     a template's: what it has loaded, in order, as objects with
              "item", "ms" and "mib\"""",
)


def main(argv: list[str]) -> int:
    """List what runs. Raises BadUsage; OSError where it can't be written."""
    given, _ = COMMAND.parse(argv)
    from warmfork.cli.census import Census, walk

    found = list(walk(Census().collect("all" in given)))
    if "json" in given:
        show_json(found)
    elif found:
        show_tables(found)
    else:
        print("nothing of warmfork runs")
    return 0


def show_json(found: Sequence[tuple[ProcessRecord, int]]) -> None:
    """Print the objects of --json."""
    import json
    from dataclasses import fields

    def describe(record: ProcessRecord) -> dict[str, Any]:
        return {each.name: getattr(record, each.name) for each in fields(record) if each.name != "below"}

    print(json.dumps([describe(record) for record, _ in found], indent=2, allow_nan=False))


def show_tables(found: Sequence[tuple[ProcessRecord, int]]) -> None:
    """Print the processes as a tree, and what the templates have preloaded."""
    from warmfork.cli import table

    if hasattr(sys.stdout, "reconfigure"):
        # What its encoding has no letter for is shown as "?", and costs nobody the table.
        sys.stdout.reconfigure(errors="replace")
    width = table.get_width()
    lines = table.lay_out(table.describe(found), table.COLUMNS, width)
    preloads = [
        {
            "TEMPLATE": "" if number else str(record.pid),
            "MS": f"{item['ms']:.1f}",
            "MIB": f"{item['mib']:.1f}",
            "PRELOADED": item["item"],
        }
        for record, _ in found
        for number, item in enumerate(record.preload or ())
    ]
    if preloads:
        lines += ["", *table.lay_out(preloads, [*preloads[0]], width)]
    print("\n".join(lines))
