"""What this process is in its tree, and what it was given: a door, the spec of its template."""

from __future__ import annotations

import os

from warmfork._machine import fds, pids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from warmfork._words.spec import Spec

PROGRAM, TEMPLATE, CHILD = "program", "template", "child"

kind = PROGRAM
door = -1
identity = (0, 0)
"""What the door's number meant when it was given."""
prefix = ""
"""How the names of this tree's semaphores begin in /dev/shm."""
spec: Spec | None = None
ids = -1, -1
"""Who the tracker that started our template is: user and group."""
tracker = 0, 0
"""The tracker that started our template: its pid, and when it was started (ns since boot). A successor is not known here."""


def become_template(given_door: int, its_spec: Spec, its_tracker: tuple[int, int]) -> None:
    """This process is a template."""
    global kind, spec, tracker, ids
    kind, spec, tracker = TEMPLATE, its_spec, its_tracker
    ids = os.getuid(), os.getgid()  # a preload may change ours
    take_door(given_door)


def become_child(given_door: int) -> None:
    """This process is a child, with this door (-1: none)."""
    global kind
    kind = CHILD
    take_door(given_door)


def is_tracker_alive() -> bool:
    """Does the tracker live that started the template of this process? Where it does not there may be a successor."""
    pid, since = tracker
    return not pid or pids.is_alive(pid, since)


def take_door(given: int) -> None:
    """Take the door."""
    global door, identity
    door, identity = given, fds.identify(given) if given >= 0 else (0, 0)


def get_door() -> int:
    """Give the door's fd; -1 where there is none. User code may have closed it, and opened something else."""
    return door if door >= 0 and fds.is_still(door, identity) else -1
