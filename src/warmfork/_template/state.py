"""What a sealed template knows, for all parts of its loop. It does nothing by itself."""

from __future__ import annotations

import os

from warmfork._machine import fds, pids, signals
from warmfork._machine.pending_kills import PendingKills

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from warmfork._child.birth import Birth
    from warmfork._template.clients import ClientRecord
    from warmfork._words.board import Board
    from warmfork._words.spec import Spec


class TemplateState:
    """What its parts share."""

    def __init__(
        self, spec: Spec, board: Board, generation: int, kept: tuple[int, ...], policy: int, base: tuple[Any, ...]
    ) -> None:
        self.spec = spec
        self.board = board
        self.generation = generation
        self.kept = kept  # the fds that children have from us, such as those that the preload opened
        self.policy = policy  # how many spares a client gets
        self.base = base  # the state that children have where their client's is the same
        here = os.stat(".")
        self.here = here.st_dev, here.st_ino
        self.me = pids.open_pidfd(os.getpid())
        self.clients: set[ClientRecord] = set()
        self.children: dict[int, tuple[int, ClientRecord, int]] = {}  # pid: slot, client, kill
        self.pending_kills = PendingKills()
        self.starts = 0
        self.latest = 0  # the child that was started last
        self.busy = 0.0  # when a child last started or died, by monotonic()
        self.titled = -1  # the number of children that our title shows
        self.leave = -1  # an eventfd: what tells spares to leave
        self.signals: int | None = None  # an fd: what tells spares that a signal waits for them
        self.prefault_calls: list[Callable[[], int]] = []  # give a spare the pages that a birth touches
        self.wanted: list[str] = []  # modules that are still to be loaded, for clients have them
        self.born: Birth | None = None  # in a child: what it was forked for


def count_started(state: TemplateState) -> int:
    """Count the children that live and are no spares."""
    return len(state.children) - sum(len(client.traffic.spares) for client in state.clients)


def holds_children(state: TemplateState, client: ClientRecord) -> bool:
    """Is there a child that the client's death ends? Or a spare: it may have been handed over, and become such a child,
    without our having heard of that."""
    return any(pid in client.traffic.spares or is_ended_with_client(state, pid) for pid in client.children)


def is_ended_with_client(state: TemplateState, pid: int) -> bool:
    """Does this child end with its client? The board says it, which a child that was a spare writes itself: the client
    may have died before it told us."""
    slot, _, kill = state.children[pid]
    row = state.board.read_row(slot)
    return bool(row.kill if row is not None else kill)


def get_leave(state: TemplateState) -> int:
    """Give the fd by which spares are told to leave."""
    if state.leave < 0:
        state.leave = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    return state.leave


def get_signals(state: TemplateState) -> int:
    """Give the fd by which each spare learns that a signal waits for it, or -1."""
    if state.signals is None:
        state.signals = signals.open_signals()
    return state.signals


def let_spares_go(state: TemplateState) -> None:
    """Have the spares leave that nobody takes at this moment; no others before the next start."""
    if state.leave >= 0:
        leave = fds.Fd(state.leave)
        state.leave = -1
        os.eventfd_write(leave.fileno(), 1)
        leave.close()
    for client in state.clients:
        client.traffic.target = 0
