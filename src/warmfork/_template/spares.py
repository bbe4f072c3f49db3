"""How many spares a client gets, and when: learnt from its own traffic.

A program that starts one process gets none. One that starts a second within a second gets one, and one more each time
that it asked while none was at hand, up to the number of processors, or 16. One that starts several at a time (a pool), and
soon after that several again, has as many ahead from then on. A spare that nobody has taken for a while leaves by itself,
and the learning starts anew.
"""

from __future__ import annotations

import os

from warmfork._machine import fds
from warmfork._template import forking

AUTO, NONE = -1, 0
"""Policies: learn, or have none. Any other number is how many to have."""

TOGETHER = 0.1
"""Seconds between two starts, the first child still alive, that are of one burst."""

RECENT = 1.0
"""Seconds between two starts that make traffic."""

REFILL_IDLE = 0.001
"""Seconds after a hand-over before a spare is forked: a template that forks neither answers nor reaps meanwhile. At the
hand-over itself the gain is lost; only at the exit, and children that live long are never refilled for."""

PATIENCE = 0.006
"""The same, while the child that was handed over still lives: many are dead by then, and their death is told first."""

BURST_PATIENCE = 0.03
"""The same after a burst: its children have just begun their work, and several forks would take processors from them. The
next burst comes later than that."""

LIFE = 5.0
"""Seconds after which a spare that was learnt leaves."""

MOST = 16
"""Spares that are learnt at most: each takes 1.5 to 2.5 MB."""


class SparePolicy:
    """What one client does, and the spares that are its."""

    __slots__ = ("before", "burst", "last", "policy", "spares", "target")

    def __init__(self, policy: int) -> None:
        self.policy = policy
        self.target = max(policy, 0)
        self.last = -1e9
        self.burst = 1  # starts of the burst that goes on
        self.before = 1  # of the one before it
        self.spares: set[int] = set()

    def note_start(self, now: float, missed: bool, beside: bool = False) -> None:
        """The client started a child; `missed`: no spare was at hand; `beside`: the child that was started last lives."""
        pause, self.last = now - self.last, now
        if self.policy != AUTO:
            self.target = self.policy
            return
        if beside and pause < TOGETHER:
            self.burst += 1
        else:
            self.before = self.burst if pause <= LIFE else 1
            self.burst = 1
        if pause > LIFE:
            self.target = 0
        elif missed and pause < RECENT:
            self.target = max(self.target, min(self.target + 1, count_processors()))
        # Not before the second burst: most programs have one pool.
        self.target = min(max(self.target, min(self.burst, self.before)), MOST) if self.burst > 1 else self.target

    def note_death(self, pid: int, now: float) -> None:
        """A child of the client is dead. A spare that left has not been needed for a while; or its client could not have
        it (it is out of fds), and could not have another one either before it starts something."""
        if pid in self.spares:
            self.spares.discard(pid)
            self.target = min(self.target, len(self.spares))
            if self.policy == AUTO and now - self.last >= LIFE:
                self.target = 0

    def is_in_burst(self) -> bool:
        """Were several started at a time? Very many, one beside the other, are a stream, which never pauses."""
        return 1 < self.burst <= MOST

    def lacks(self) -> bool:
        """Is one more spare wanted?"""
        return len(self.spares) < self.target


def choose_policy(wanted: int, notes: list[str]) -> int:
    """Give the policy of a template: the wanted one, or none at all where spares would do harm, which is noted."""
    if wanted == NONE:
        return NONE
    if is_commit_strict():
        why = "vm.overcommit_memory=2 charges each for the whole address space"
    elif os.getpgrp() == 0:
        why = "the process group that they would have to join is in another pid namespace"
    elif forking.handlers:
        modules = ", ".join(sorted(set(forking.handlers)))
        why = f"{modules} has functions that run after a fork, and spares would run them before they are used"
    else:
        return wanted
    notes.append(f"without spares: {why}")
    return NONE


def count_processors() -> int:
    """Count the processors that this process may use: one spare for each keeps all of them busy."""
    return len(os.sched_getaffinity(0))


def is_commit_strict() -> bool:
    """Does each fork charge the whole address space (vm.overcommit_memory=2)?"""
    return fds.try_to_read("/proc/sys/vm/overcommit_memory").strip() == b"2"
