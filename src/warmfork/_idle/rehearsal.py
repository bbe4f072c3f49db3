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
from warmfork._child import ending, large, stdio
from warmfork._child.birth import Birth
from warmfork._machine import fds, pids, role, sockets
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


def rehearse(spec: Spec, board: Board, base: tuple[Any, ...]) -> Iterator[int]:
    """Take the steps of birth in this process, one round for each item that is asked for."""
    large.prepare()
    for number in range(ROUNDS):
        kept = role.kind, role.door, role.identity
        slot = board.take_slot()
        try:
            if slot >= 0:
                rehearse_once(spec, board, base, slot)
        finally:
            role.kind, role.door, role.identity = kept
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
    """Be fed, and become, once, but for what could not be put back."""
    entry = find_entry(spec)
    with FedBirth(spec, board, base, slot, entry.rehearse(None)) as birth:
        for name, step in birth_.STEPS:
            if name in STEPS:
                birth.step = name
                step(birth)
        entry.rehearse(birth)
    ending.rehearse()


def live(spec: Spec, board: Board, base: tuple[Any, ...]) -> None:
    """In a throw-away child: be a spare that is taken, has nothing to run, and comes to its end, up to the last look round.
    Only its leaving is left out."""
    with FedBirth(spec, board, base, board.take_slot(), find_entry(spec).rehearse(None)) as birth:
        me = os.getpid()
        birth.client, birth.leave, birth.watch = me, os.eventfd(0), pids.open_pidfd(me)
        birth_.become(birth)
    ending.rehearse()


def find_entry(spec: Spec) -> Any:
    """Find the module of the entry. Its rehearse() gives a payload for None, and takes it for a birth that got it."""
    name = spec.entry.partition(":")[0]
    __import__(name)
    return sys.modules[name]


class FedBirth:
    """A birth whose feed waits to be read; for a `with` block."""

    def __init__(self, spec: Spec, board: Board, base: tuple[Any, ...], slot: int, payload: bytes) -> None:
        said = {
            "small": base,
            "entry": spec.entry,
            "kill": False,
            "name": "template",  # becomes our own title for a moment: let it still say what we are
            "fds": feed.HAS_DOOR | feed.HAS_OUT | feed.HAS_ERR,
        }
        state = dumps(said)
        ours, self.theirs = sockets.make_pair()
        sockets.ask_for_credentials(ours)
        self.birth = Birth(ours, board, slot, base, spec)
        self.birth.ids = os.getuid(), os.getgid()
        self.me = -1
        self.streams: list[int] = []  # ours, which the birth puts others in the place of
        alike: list[int] = []
        try:
            self.me = pids.open_pidfd(os.getpid())
            for number in (1, 2):
                alike.append(stdio.open_alike(number))
                self.streams.append(os.dup(number))
            passed = (self.me, self.me, *alike)
            header = feed.HEADER.pack(feed.MAGIC, len(state), len(payload), len(passed), 0)
            sockets.send(self.theirs, b"".join((header, state, payload)), passed)
        except BaseException:
            self.__exit__()
            raise
        finally:
            fds.close_all(alike)

    def __enter__(self) -> Birth:
        return self.birth

    def __exit__(self, *_: object) -> None:
        self.theirs.close()
        for number, kept in enumerate(self.streams, 1):
            os.dup2(kept, number)
            os.close(kept)
        self.birth.socket.close()
        fds.close_all([fd for fd in (self.me, self.birth.parent, self.birth.door) if fd >= 0])
