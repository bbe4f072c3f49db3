"""System calls that fail: the n-th of one kind of process, once. Installed by sitecustomize, never by the package.

FAULTS_INJECT="WHO ERRNO N" says where: WHO is client, template, tracker or child. Only calls that the package itself makes
are counted, and only those that can fail so. With N = 0 they are counted and none fails.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from typing import Any

from tests.faults import stops

WHO = ("client", "template", "tracker", "child")

NEW_FD = frozenset(("open", "dup", "pidfd_open", "memfd_create", "pipe2", "socketpair", "epoll", "F_DUPFD", "receive"))
MEMORY = frozenset(
    ("open", "pidfd_open", "memfd_create", "socketpair", "epoll", "fork", "posix_spawn", "map_shared", "send")
)

CALLS = {"EMFILE": NEW_FD, "ENFILE": NEW_FD - {"F_DUPFD"}, "ENOMEM": MEMORY, "EAGAIN": {"fork", "posix_spawn", "send"}}
"""Which calls may fail with what (their man pages). A receive does not fail: the fds do not arrive (MSG_CTRUNC)."""


class Injection:
    """What is to fail in this process."""

    def __init__(self, who: str, name: str, number: int) -> None:
        self.who = who
        self.calls = CALLS[name]
        self.errno = getattr(errno, name)
        self.number = number
        self.count = 0
        self.me = "client"

    def become(self) -> None:
        """In a fork: the tracker's first is the template, the template's are children."""
        self.me = {"tracker": "template", "template": "child"}.get(self.me, self.me)
        self.count = 0

    def is_due(self, call: str, depth: int) -> bool:
        """Is it this call's turn to fail?"""
        if self.me != self.who or call not in self.calls:
            return False
        if not sys._getframe(depth).f_globals.get("__name__", "").startswith("warmfork"):
            return False
        self.count += 1
        if self.count != self.number:
            return False
        try:  # once in all: the next process that comes so far is spared
            os.close(os.open(f"{stops.FOLDER}/hit", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        frame = sys._getframe(depth)
        stops.say("injected", call=call, at=f"{frame.f_globals['__name__']}:{frame.f_code.co_name}:{frame.f_lineno}")
        return True

    def make_error(self) -> OSError:
        """Make what the call raises."""
        return OSError(self.errno, os.strerror(self.errno))

    def wrap(self, call: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Give a function that fails when it is its turn."""

        def failing(*given: Any, **named: Any) -> Any:
            if self.is_due(call, 2):
                raise self.make_error()
            return function(*given, **named)

        return failing


def install() -> None:
    """Have this process's calls counted, and one of them fail."""
    if not os.environ.get("FAULTS_INJECT"):
        return
    who, name, number = os.environ["FAULTS_INJECT"].split()
    injection = Injection(who, name, int(number))
    command = " ".join(sys.orig_argv)
    for kind in ("tracker", "template"):
        if f"/_{kind}/start.py" in command:
            injection.me = kind
    os.register_at_fork(after_in_child=injection.become)
    import fcntl
    import select

    from warmfork._client import spawn
    from warmfork._idle import rehearsal
    from warmfork._machine import fds, memory, sockets
    from warmfork._template import forking
    from warmfork._tracker import templates

    rehearsal.ROUNDS = 2  # thirty times the same calls are not worth thirty times the time

    for call in ("open", "dup", "pidfd_open", "memfd_create", "pipe2", "fork", "posix_spawn"):
        setattr(os, call, injection.wrap(call, getattr(os, call)))
    # These were taken out of their modules when they were loaded.
    forking.fork = injection.wrap("fork", forking.fork)  # type: ignore[assignment]
    templates.posix_spawn = injection.wrap("posix_spawn", templates.posix_spawn)  # type: ignore[assignment]
    spawn.posix_spawn = injection.wrap("posix_spawn", spawn.posix_spawn)
    select.epoll = injection.wrap("epoll", select.epoll)  # type: ignore[assignment, misc]
    memory.map_shared_by = injection.wrap("map_shared", memory.map_shared_by)
    sockets.socketpair = injection.wrap("socketpair", sockets.socketpair)
    sockets.send = injection.wrap("send", sockets.send)
    plain, receive = fcntl.fcntl, sockets.receive

    def fcntl_(fd: Any, command: int, argument: Any = 0) -> Any:
        if command == fcntl.F_DUPFD_CLOEXEC and injection.is_due("F_DUPFD", 2):
            raise injection.make_error()
        return plain(fd, command, argument)

    def receive_(*given: Any, **named: Any) -> Any:
        got = receive(*given, **named)
        if got.fds and injection.is_due("receive", 2):
            fds.close_all(got.fds)
            got.fds, got.cut = [], True
        return got

    fcntl.fcntl, sockets.receive = fcntl_, receive_  # type: ignore[assignment]
