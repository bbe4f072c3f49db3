"""What this process is in its tree, and what it was given: a door, a parent, the spec of its template."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from warmfork._words.spec import Spec

PROGRAM, TEMPLATE, CHILD = "program", "template", "child"

kind = PROGRAM
door = -1
parent = -1
prefix = ""
"""How the names of this tree's semaphores begin in /dev/shm."""
spec: Spec | None = None
ids = -1, -1
"""Who the tracker that started our template is: user and group."""
tracker = 0, 0
"""The tracker that started our template: its pid, and when it was started (ns since boot). A successor is not known here."""


def become_template(given_door: int, its_spec: Spec, its_tracker: tuple[int, int]) -> None:
    """This process is a template."""
    global kind, door, spec, tracker, ids
    kind, door, spec, tracker = TEMPLATE, given_door, its_spec, its_tracker
    ids = os.getuid(), os.getgid()  # a preload may change ours


def become_child(given_door: int, given_parent: int) -> None:
    """This process is a child: its door and the pidfd of its client."""
    global kind, door, parent
    kind, door, parent = CHILD, given_door, given_parent
