"""The fault matrix as data: who dies, when, and how; and the cells that wait for what is not built yet."""

from __future__ import annotations

from typing import NamedTuple

from warmfork._child.birth import STEPS

BIRTH = tuple(name for name, _ in STEPS)
"""The steps of a birth, as birth.py has them. A child is stopped before each."""

IN_TEMPLATE = ("fork", "forked")
"""Before the template forks, and when it has and nobody knows yet."""

SOONEST, PAYLOAD, RUNNING, EXIT, SHUTDOWN = "before", "payload", "running", "exit", "shutdown"
WHEN = (SOONEST, *IN_TEMPLATE, *BIRTH, PAYLOAD, RUNNING, EXIT, SHUTDOWN)
"""before: the template is there, no child is. payload: while it is unpickled. exit: in the child's exit handlers.
shutdown: the program has come to its end and waits for its children."""

PROGRAM, TEMPLATE, TRACKER, BOTH, CHILD, PARENT, GRANDCHILD, SPARE, TEMPLATE_FIRST, TRACKER_FIRST = (
    "program", "template", "tracker", "template and tracker", "child", "child with a child", "grandchild", "spare",
    "template, then program", "tracker, then program",
)  # fmt: skip

KILL, TERM, STOP_KILL, GROUP_INT, OWN_EXIT, SEGFAULT = (
    "SIGKILL", "SIGTERM", "SIGSTOP, SIGKILL", "SIGINT to the group", "os._exit", "segfault",
)  # fmt: skip

SPARE_WHEN = ("parked", "handed over")

YOUNG, TWICE = "young tracker", "SIGKILL, and its successor too"
YOUNG_WHEN = ("begin", "unborn", "unread")
"""Its first line; before it forks the first template; when it has, and has not read the ledger yet."""

STDLIB_WHEN = (SOONEST, *IN_TEMPLATE, BIRTH[0], PAYLOAD, RUNNING, EXIT, SHUTDOWN)
"""What the stdlib's forkserver has too: its births have no steps but those that everybody's have."""


class Cell(NamedTuple):
    """One fault."""

    who: str
    when: str
    how: str

    def __str__(self) -> str:
        return f"{self.who}, {self.when}, {self.how}"


def list_cells(engine: str) -> list[Cell]:
    """Give the matrix for an engine, "warmfork" or "stdlib"."""
    when = WHEN if engine == "warmfork" else STDLIB_WHEN
    cells = []
    for moment in when:
        signals = (KILL, TERM, STOP_KILL)
        # At its end a program takes no orders any more, so it can't be told to do it to itself.
        cells += [Cell(PROGRAM, moment, how) for how in (*signals, GROUP_INT)]
        if moment != SHUTDOWN:
            cells += [Cell(PROGRAM, moment, how) for how in (OWN_EXIT, SEGFAULT)]
        cells += [Cell(TEMPLATE, moment, how) for how in (*signals, SEGFAULT)]
        if moment in IN_TEMPLATE:
            cells.append(Cell(TEMPLATE, moment, OWN_EXIT))
        cells += [Cell(TRACKER, moment, how) for how in (*signals, SEGFAULT)]
        cells += [Cell(BOTH, moment, how) for how in (KILL, STOP_KILL)]
        if moment not in (SOONEST, *IN_TEMPLATE):
            cells += [Cell(CHILD, moment, how) for how in (*signals, OWN_EXIT, SEGFAULT)]
        if moment != SHUTDOWN:
            cells += [Cell(who, moment, KILL) for who in (TEMPLATE_FIRST, TRACKER_FIRST)]
        if moment not in (SOONEST, SHUTDOWN):
            cells += [Cell(PARENT, moment, how) for how in signals]
        if moment not in (SOONEST, *IN_TEMPLATE, SHUTDOWN):
            cells += [Cell(GRANDCHILD, moment, how) for how in (*signals, OWN_EXIT, SEGFAULT)]
    if engine == "warmfork":
        cells += [Cell(YOUNG, moment, how) for moment in YOUNG_WHEN for how in (KILL, STOP_KILL, TWICE)]
        cells += [Cell(SPARE, moment, how) for moment in SPARE_WHEN for how in signals]
    return cells


def list_quick_cells() -> list[Cell]:
    """Give a part of the matrix that takes half a minute: each who at each when, the ways of dying in turn; of those that
    are known to fail, which takes its time, one for each reason."""
    by_place: dict[tuple[str, str], list[Cell]] = {}
    for cell in list_cells("warmfork"):
        by_place.setdefault((cell.who, cell.when), []).append(cell)
    chosen = [cells[number % len(cells)] for number, cells in enumerate(by_place.values())]
    known = [next(cell for cell in chosen if cell in listed) for listed in WAITING.values()]
    return [cell for cell in chosen if cell in known or not get_reason(cell)]


WAITING: dict[str, frozenset[Cell]] = {}
"""The cells that are known to fail, by the reason. One that is listed and passes is an error."""


def get_reason(cell: Cell) -> str:
    """Give why this cell is known to fail, or ""."""
    return next((reason for reason, listed in WAITING.items() if cell in listed), "")
