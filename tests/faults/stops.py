"""Stops: places at which a process of a cell says where it is and waits for an order. Installed by sitecustomize.

A stop is armed by a file, `stop-NAME` in the folder of the cell; the first process that comes by takes it. Nothing of this
is known to the code under test: its steps of birth and its fork are replaced by ones that stop first.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

FOLDER = os.environ.get("FAULTS_FOLDER", "")


def say(what: str, **more: object) -> None:
    """Tell the driver. One write, so that lines never mix."""
    line = json.dumps({"what": what, "pid": os.getpid(), "ppid": os.getppid(), **more}) + "\n"
    fd = os.open(f"{FOLDER}/events", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, line.encode())
    finally:
        os.close(fd)


def read_order(name: str) -> str:
    """Wait for a line in the FIFO of this name."""
    fd = os.open(f"{FOLDER}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        line = b""
        while not line.endswith(b"\n"):
            line += os.read(fd, 1)
        return line.decode().strip()
    finally:
        os.close(fd)


def stop(name: str) -> None:
    """Stop here, if this stop is armed, until there is an order."""
    try:
        os.unlink(f"{FOLDER}/stop-{name}")
    except FileNotFoundError:
        return
    say("stopped", at=name)
    obey(read_order(f"gate-{name}"))


def obey(order: str) -> None:
    """Do what was ordered: go on, or end here."""
    word, _, number = order.partition(" ")
    if word == "_exit":
        os._exit(int(number))
    if word == "exit":
        sys.exit(int(number))
    if word == "segfault":
        import ctypes

        ctypes.string_at(0)


class Trap:
    """Stops where it is unpickled."""

    def __init__(self) -> None:
        self.set = True

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state
        stop("payload")


def install() -> None:
    """Put the stops in, by what this interpreter is started as."""
    command = " ".join(sys.orig_argv)
    if "/_tracker/start.py" in command or "/_template/start.py" in command:
        install_in_template()
        if "/_tracker/start.py" in command:
            install_in_tracker()
    elif "multiprocessing.forkserver import main" in command:
        install_in_forkserver()


def install_in_template() -> None:
    """Stop before each step of a birth, before the fork and after it."""
    from warmfork._child import birth
    from warmfork._template import forking

    def stop_before(name: str, step: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def stopping(given: Any) -> Any:
            if given.keep is not None:  # not while the template rehearses
                if given.client and name == "stdio":
                    stop("handed over")
                stop(name)
            return step(given)

        return stopping

    birth.STEPS = tuple((name, stop_before(name, step)) for name, step in birth.STEPS)
    fork = forking.fork_child

    def fork_child(kept: tuple[int, ...], apart: bool = False) -> Any:
        stop("fork")
        forked = fork(kept, apart)
        if forked[0]:
            stop("forked")
        return forked

    forking.fork_child = fork_child


def install_in_tracker() -> None:
    """Stop in the first moments of a tracker's life."""
    from warmfork._machine import pids
    from warmfork._tracker import first, main

    def stop_before(name: str, function: Callable[[], Any]) -> Callable[[], Any]:
        def stopping() -> Any:
            stop(name)
            return function()

        return stopping

    main.raise_limits = stop_before("begin", main.raise_limits)
    first.is_bare = stop_before("unborn", first.is_bare)
    pids.become_subreaper = stop_before("unread", pids.become_subreaper)


def install_in_forkserver() -> None:
    """The same where the stdlib's forkserver has the same."""
    fork = os.fork

    def stopping_fork() -> int:
        stop("fork")
        pid = fork()
        stop("forked" if pid else "reseed")
        return pid

    os.fork = stopping_fork
