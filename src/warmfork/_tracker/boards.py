"""The boards of templates that died with the tracker before this one, or while there was none: nobody else could tell a
successor which children they left, and on what terms. Children hold their template's board for life."""

from __future__ import annotations

import os

from warmfork._machine import proc
from warmfork._words import board as board_


def find_left(ledger: int) -> list[board_.Board]:
    """Find the boards of this tree whose templates are dead."""
    wanted = board_.make_name(os.fstat(ledger).st_ino)
    found: dict[tuple[int, int], board_.Board] = {}
    alive = set()
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        for fd, target in (proc.list_files(pid) or {}).items():
            mapped = proc.map_file(pid, fd, board_.SIZE) if wanted in target else None
            if mapped is None:
                continue
            identity, view = mapped
            found[identity] = board_.Board(view)
            if found[identity].read_template() == pid:
                alive.add(identity)
    return [board for identity, board in found.items() if identity not in alive]
