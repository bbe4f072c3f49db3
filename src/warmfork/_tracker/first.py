"""The first template: a fork of the tracker's interpreter, while that is still bare."""

from __future__ import annotations

import os
import sys

from warmfork._machine import fds, sockets
from warmfork._tracker import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    BeTemplate = Callable[[sockets.socket, tuple[int, ...], tuple[int, int, int]], NoReturn]

HELLO, STDIO, BY_EXEC = 1, 17, 4
"""The tag of a Hello, where its `stdio` is, and the bit of it that asks for an interpreter of its own: the messages module
is imported after the fork, in both processes at once."""


def may_fork(first: sockets.Received) -> bool:
    """Is it for a template that may be a fork of this interpreter, and from one of our own user?"""
    data = first.data
    by_fork = len(data) > STDIO and data[0] == HELLO and not data[STDIO] & BY_EXEC
    return by_fork and len(first.fds) >= 4 and (first.uid, first.gid) == (os.getuid(), os.getgid())


class Started:
    """The first template, as the tracker got it by forking."""

    def __init__(self, pid: int, control: sockets.socket, board: fds.Fd, log: fds.Fd, stacks: fds.Fd) -> None:
        self.pid, self.control, self.board, self.log, self.stacks = pid, control, board, log, stacks


def is_bare() -> bool:
    """Has this interpreter one thread? A sitecustomize may have started more."""
    return len(os.listdir("/proc/self/task")) == 1


def fork_template(
    ledger: int, ours: tuple[sockets.socket, ...], hello: sockets.Received, be_template: BeTemplate
) -> Started | None:
    """Fork the template; it has what a Launch and an Adopt would have brought. Returns in the tracker only: None where it
    is not to be a fork, or can't be made; then it is started as later ones are, or it is said why not."""
    if not may_fork(hello):
        return None
    try:
        board, stacks, log = fds.Fd(files.make_board(ledger)), fds.Fd(files.make_stacks()), fds.Fd(files.make_log())
        control, theirs = sockets.make_pair()
    except OSError:
        return None
    try:
        pid = os.fork()
    except OSError:
        control.close()
        theirs.close()
        return None
    if pid == 0:
        channel, pidfd, spec, its_door = hello.fds[:4]
        kept = (theirs.fileno(), board.fileno(), log.fileno(), stacks.fileno(), channel, pidfd, spec, its_door)
        fds.close_all_but(tuple(sorted(kept)))
        for socket in (control, *ours):
            socket.detach()
        try:
            launched = (1, spec, board.release(), log.release(), its_door, stacks.release())
            be_template(theirs, launched, (channel, hello.pid, pidfd))
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(70)
    theirs.close()
    return Started(pid, control, board, log, stacks)
