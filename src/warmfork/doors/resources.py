"""multiprocessing's resource tracker, spoken for by ours: what its Locks and SharedMemory register goes to our ledger.

The stdlib's object, class and process stay. Instance attributes on its one object catch all callers, also those that
took a bound `register` earlier, and we speak nobody else's wire format (row 67).
"""

from __future__ import annotations

import os
from multiprocessing import process, resource_tracker

from warmfork._machine import role
from warmfork._words import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from warmfork._client.client import Client

STDLIB = resource_tracker._resource_tracker
CLASS = type(STDLIB)
LONGEST = 255
"""Bytes of a name (NAME_MAX)."""

_pid_of_stdlib: int | None = None


def take_over(prefix: str | None = None) -> None:
    """Have names registered with our tracker from now on. Does nothing where that is so already, or where this
    process was started by spawn or loky and was given the tracker of its parent."""
    if "_send" in vars(STDLIB) or is_foreign():
        return
    if prefix is None and role.kind == role.PROGRAM:
        from warmfork._client import launch

        client = get_client()
        tree = launch.get_tree_id()
        client.prefix = f"sem.mp-{tree}-"
        # All that inherit this process's configuration name their semaphores so, and what is never registered is
        # found by it at the end of the tree (M20).
        process.current_process()._config["semprefix"] = f"/mp-{tree}"  # type: ignore[attr-defined]
    STDLIB._send = send  # type: ignore[method-assign]
    STDLIB.getfd = getfd  # type: ignore[method-assign]
    if hasattr(CLASS, "_stop"):
        STDLIB._stop = stop
    resource_tracker.ensure_running = ensure_running


def get_client() -> Client:
    """Give this process's client. Loaded at the first name: a template and most children never need it."""
    from warmfork._client.client import get_client

    return get_client()


def is_foreign() -> bool:
    """Was this process given the tracker of the parent that spawned it?"""
    return STDLIB._fd is not None and STDLIB._pid is None and role.kind != role.CHILD


def adopt_child(fd: int) -> None:
    """In a child: take the stdlib's tracker over from the parent, where that runs one beside ours."""
    if fd >= 0:
        STDLIB._fd = fd


def get_stdlib_fd() -> int | None:
    """Give the fd of the stdlib's own tracker, where this process talks to one."""
    fd: int | None = STDLIB._fd
    return fd


def is_stdlib_running() -> bool:
    """Does the stdlib's own tracker run beside ours in this process?"""
    return STDLIB._fd is not None


def ensure_running() -> None:
    """Start our tracker, if none runs."""
    get_client().ensure_door()


def getfd() -> int:
    """Give the real pipe of the stdlib's tracker, for a child that is to be spawned with it."""
    get_client().tell(messages.Mixed())
    CLASS.ensure_running(STDLIB)
    fd = STDLIB._fd
    if fd is None:
        raise RuntimeError("multiprocessing's resource tracker did not start")
    return fd


def send(cmd: str, name: str, rtype: str) -> None:
    """Take a message that was meant for the stdlib's tracker."""
    if len(os.fsencode(name)) > LONGEST:
        raise ValueError(f"name too long: {len(os.fsencode(name))} bytes, and at most {LONGEST} are allowed")
    client = get_client()
    if cmd == "REGISTER":
        if STDLIB._fd is not None and STDLIB._pid is not None:
            CLASS.ensure_running(STDLIB)  # it may have died, and then says so
        client.tell(messages.Register(rtype, name))
    elif cmd == "UNREGISTER":
        client.tell(messages.Unregister(rtype, name))
        if is_stdlib_running():
            # A spawned child may have registered it there. A REGISTER first, so that its set has it to remove.
            CLASS._send(STDLIB, "REGISTER", name, rtype)
            CLASS._send(STDLIB, "UNREGISTER", name, rtype)


def stop(*arguments: object, **named: object) -> None:
    """Have the names removed that are left, as the tests of multiprocessing do at their end."""
    if STDLIB._pid is not None:
        CLASS._stop(STDLIB, *arguments, **named)
        return
    client = get_client()
    if client.door is not None:
        from warmfork._client import launch

        answer = launch.ask(client.door, messages.Sweep(), 10.0)
        STDLIB._exitcode = int(isinstance(answer, messages.Swept) and answer.left > 0)
