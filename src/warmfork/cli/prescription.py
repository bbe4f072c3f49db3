"""What `warmfork doctor` prints for people: tables, findings, and the list to copy."""

from __future__ import annotations

from warmfork.cli.table import get_width, is_ascii, show_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rich.console import Console

ROWS = 25
"""The dearest modules that are shown."""

PIPE = 160
"""The width where nobody looks at a terminal."""

COLORS = {"danger": "bold red", "warning": "yellow", "note": "dim"}


def show(found: Mapping[str, Any]) -> None:
    """Print all of it. Raises OSError."""
    from rich import box
    from rich.console import Console

    console = Console(width=get_width() or PIPE, highlight=False, markup=False, safe_box=is_ascii())
    style = box.ASCII if is_ascii() else box.SIMPLE
    show_modules(console, found, style)
    show_findings(console, found, style)
    verdict = {"safe": "safe to preload", "findings": "see the findings", "unknown": "could not tell"}[found["verdict"]]
    console.print(f"Verdict: {verdict}.")
    if found["preload"]:
        names = ", ".join(f'"{name}"' for name in found["preload"])
        console.print(f"Suggested: preload=[{names}]", soft_wrap=True)
    if found["effect"] is not None:
        show_effect(console, found["effect"], style)


def show_modules(console: Console, found: Mapping[str, Any], style: Any) -> None:
    """Print what was asked for and the dearest modules."""
    from rich.table import Table

    table = Table(box=style, title=None)
    table.add_column("MODULE", overflow="fold")
    for name in ("MS", "OWN MS", "MIB", "OWN MIB"):
        table.add_column(name, justify="right")
    table.add_column("BROUGHT BY", overflow="fold")
    dearest = sorted(found["modules"], key=lambda one: -one["ms"])[:ROWS]
    for one in dearest:
        numbers = [f"{one[key]:.1f}" for key in ("ms", "own_ms", "mib", "own_mib")]
        table.add_row(show_text(one["name"]), *numbers, show_text(one["by"].rpartition("/")[2] or "-"))
    for one in found["items"]:
        if one["error"]:
            table.add_row(show_text(one["item"]), "-", "-", "-", "-", show_text(one["error"]))
    console.print(table)
    left = len(found["modules"]) - len(dearest)
    if left > 0:
        console.print(f"{left} more modules: see --json.\n")


def show_findings(console: Console, found: Mapping[str, Any], style: Any) -> None:
    """Print the findings and what to do about each."""
    from rich.table import Table

    if not found["findings"]:
        console.print("No findings.")
        return
    table = Table(box=style)
    for name in ("SEVERITY", "MODULE", "FINDING", "IN CHILD", "WHAT TO DO"):
        table.add_column(name, overflow="fold")
    for one in found["findings"]:
        seen = {True: "yes", False: "no", None: "?"}[one["in_child"]]
        text = "\n".join(map(show_text, one["what"].splitlines()))
        row = (one["severity"], show_text(one["module"]) or "-", text, seen, one["advice"])
        table.add_row(*row, style=COLORS[one["severity"]])
    console.print(table)


def show_effect(console: Console, effect: Mapping[str, Any], style: Any) -> None:
    """Print what the suggested list brings."""
    from rich.table import Table

    table = Table(box=style)
    for name in ("MEASURED", "FIRST START MS", "LATER STARTS MS", "CHILD'S OWN MIB", "SHARED MIB"):
        table.add_column(name, justify="left" if name == "MEASURED" else "right")
    for key in ("without", "with"):
        one = effect[key]
        numbers = [one[name] for name in ("first_ms", "later_ms", "child_own_mib", "child_shared_mib")]
        table.add_row(f"{key} preload", *(f"{number:.1f}" for number in numbers))
    console.print(table)
