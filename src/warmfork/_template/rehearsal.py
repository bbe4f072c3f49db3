"""Birth, rehearsed in the template: so that a child finds code specialised and caches filled.

A child that runs a line for the first time writes to what it shares: the interpreter specialises bytecode in place and
fills its method cache, and each page so touched is copied. Two hundred page faults of the six hundred of a start are
saved by running the same lines in the template. Nothing of the user's is run; what the steps change is put back.
"""

from __future__ import annotations

import os
import sys
from marshal import dumps

from warmfork._child import birth as birth_
from warmfork._child import room
from warmfork._child.birth import Birth
from warmfork._machine import fds, role
from warmfork._words import feed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from warmfork._words.board import Board
    from warmfork._words.spec import Spec

ROUNDS = 30
"""Runs after which CPython 3.11 to 3.15 has specialised what it will."""

STEPS = ("feed", "stdio", "state", "buffers", "identity", "signals", "entry")
"""The steps that are rehearsed: all but the reseeding, which looks at whether it has been done."""


def load_postponed(spec: Spec) -> Iterator[int]:
    """Load what the entry has put off, a module for each item that is asked for."""
    load = getattr(sys.modules.get(spec.entry.partition(":")[0]), "load_postponed", None)
    if load is not None:
        for _ in load():
            yield -1


def rehearse(spec: Spec, board: Board, base: tuple[Any, ...]) -> Iterator[int]:
    """Take the steps of birth in this process, one round for each item that is asked for."""
    room.prepare()
    for number in range(ROUNDS):
        kept = role.kind, role.door, role.parent
        slot = board.take_slot()
        try:
            if slot >= 0:
                rehearse_once(spec, board, base, slot)
        finally:
            role.kind, role.door, role.parent = kept
            if slot >= 0:
                board.free_slot(slot)
        rehearse_fork()
        yield number


def rehearse_fork() -> None:
    """Run threading's own at-fork handler: in a process with one thread it finds things as it would leave them."""
    threading = sys.modules.get("threading")
    if threading is not None and len(os.listdir("/proc/self/task")) == 1:
        threading._after_fork()


def rehearse_once(spec: Spec, board: Board, base: tuple[Any, ...], slot: int) -> None:
    """Be fed, and become, once."""
    module = sys.modules.get(spec.entry.partition(":")[0])
    rehearse_entry = getattr(module, "rehearse", None)
    payload = rehearse_entry(None) if rehearse_entry is not None else b""
    said = {
        "small": base,
        "entry": spec.entry,
        "kill": False,
        "name": "template",  # becomes our own title for a moment: let it still say what we are
        "fds": feed.HAS_DOOR | feed.HAS_OUT | feed.HAS_ERR,
    }
    state = dumps(said)
    ours, theirs = fds.make_pair()
    birth = Birth(ours, board, slot, base, spec)
    me = -1
    try:
        me = os.pidfd_open(os.getpid())
        passed = (me, me, 1, 2)
        header = feed.HEADER.pack(feed.MAGIC, len(state), len(payload), len(passed), 0)
        fds.send(theirs, b"".join((header, state, payload)), passed)
        for name, step in birth_.STEPS:
            if name in STEPS:
                birth.step = name
                step(birth)
        if rehearse_entry is not None:
            rehearse_entry(birth)
    finally:
        theirs.close()
        ours.close()
        fds.close_all([fd for fd in (me, birth.parent, birth.door) if fd >= 0])
