"""The children that a dead template left: they are the tracker's now, and its board says whose they were."""

from __future__ import annotations

import os

from warmfork._machine import memory
from warmfork._words import board as board_

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from warmfork._tracker.templates import Template


def list_live(template: Template) -> Iterator[board_.Row]:
    """List the children of a dead template that live."""
    if template.board >= 0:
        for row in board_.Board(memory.map_shared(template.board, board_.SIZE)).rows():
            if is_child(row.pid):
                yield row


def any_live(template: Template) -> bool:
    """Does a child of this dead template live?"""
    return next(list_live(template), None) is not None


def end(template: Template, client: int) -> None:
    """End this client's children that a dead template left, where their policy says so."""
    for row in list_live(template):
        if row.kill and row.client == client:
            os.kill(row.pid, 9)  # not reaped yet, so the pid can't be another's


def is_child(pid: int) -> bool:
    """Is this process our child, alive or not reaped yet?"""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
