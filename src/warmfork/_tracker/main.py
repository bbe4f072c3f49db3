"""A tracker's life: fork the first template off while this interpreter is still bare, then keep the tree's books."""

from __future__ import annotations

import gc
import os
import sys

from warmfork._machine import fds, memfds, memory, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

DOOR, LEDGER = 3, 4


def main() -> NoReturn:
    """Be the tracker of the tree whose processes hold the other end of fd 3, or find that another process is.

    Fd 4 is the tree's ledger: empty for the first tracker, whom the door's first message tells whose tree it is; a
    successor finds all in the ledger.
    """
    fds.close_all_but((DOOR, LEDGER))
    signals.set_mask(signals.HELPERS_BLOCK)
    if not memory.lock(LEDGER):
        os._exit(0)  # two of those who saw the tracker's death were as quick as each other
    door = fds.adopt_socket(DOOR)
    os.set_inheritable(DOOR, False)
    os.set_inheritable(LEDGER, False)
    root = first = started = None
    if os.fstat(LEDGER).st_size == 0:
        root = fds.receive(door, flags=fds.RECEIVE_BLOCKING)
        if not root.data:
            os._exit(0)  # the program has let go of us before it said anything
        fds.wait_readable(DOOR, PATIENCE)  # what we are wanted for follows at once: a Hello, or a name
        first = try_receive(door)
    if first is not None and len(first.fds) >= 4 and may_fork(first.data) and is_bare():
        # A second interpreter would take 8 ms more. This one has the program's flags, environment and site, and has
        # imported nothing yet that a template does not need.
        started = fork_template(door, first)
    from warmfork._machine import pids
    from warmfork._tracker.book import Book

    # Now, for the first template may die while we keep out of its way, and its children would go past us (M4).
    pids.become_subreaper()
    book = Book(LEDGER)
    if root is not None:
        book.begin(root.data)
    # While the program waits for its template: later it may have become another program (M1).
    stack = pids.read_start_stack(book.get_root().pid)
    if started is not None:
        # The program waits for the template and for nothing else: leave it the processor, and come after.
        fds.wait_readable(started.control.fileno(), PATIENCE)
        fds.wait_readable(DOOR, FURTHER_PATIENCE)
    from warmfork._tracker.server import Tracker

    gc.enable()

    code = 1
    try:
        server = Tracker(door, book, stack, succeeds=root is None)
        if first is not None:
            server.serve_first(first, started)
        code = server.serve()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


PATIENCE, FURTHER_PATIENCE = 1.0, 0.02
"""Seconds that the tracker stays out of the way of the first template, and then of the first child."""

HELLO, STDIO, BY_EXEC = 1, 17, 4
"""The tag of a Hello, where its `stdio` is, and the bit of it that asks for an interpreter of its own: the messages module
is imported after the fork, in both processes at once."""


def may_fork(data: bytes) -> bool:
    """Is this a Hello, and one for a template that may be a fork of this interpreter?"""
    return len(data) > STDIO and data[0] == HELLO and not data[STDIO] & BY_EXEC


class Started:
    """The first template, as the tracker got it by forking."""

    def __init__(self, pid: int, control: fds.socket, board: int, log: int, stacks: int) -> None:
        self.pid, self.control, self.board, self.log, self.stacks = pid, control, board, log, stacks


def try_receive(door: fds.socket) -> fds.Received | None:
    """Receive what already waits at the door. Nothing does where a name was registered before any start."""
    try:
        return fds.receive(door)
    except BlockingIOError:
        return None


def is_bare() -> bool:
    """Has this interpreter one thread? A sitecustomize may have started more."""
    return len(os.listdir("/proc/self/task")) == 1


def fork_template(door: fds.socket, hello: fds.Received) -> Started:
    """Fork the template; it has what a Launch and an Adopt would have brought. Returns in the tracker only."""
    control, theirs = fds.make_pair()
    from warmfork._tracker import files

    board = files.make_board(LEDGER)
    stacks = files.make_stacks()
    log = make_log()
    channel, pidfd, spec, its_door = hello.fds[:4]
    errors = os.dup(2)
    pid = os.fork()
    if pid == 0:
        kept = (theirs.fileno(), board, log, stacks, channel, pidfd, spec, its_door, DOOR, LEDGER, errors)
        fds.close_all_but(tuple(sorted(kept)))
        for socket in (control, door):
            socket.detach()
        from warmfork._template.main import main as be_template

        try:
            be_template(
                theirs, (1, spec, board, log, its_door, stacks, DOOR, LEDGER, errors), (channel, hello.pid, pidfd)
            )
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(70)
    theirs.close()
    os.close(errors)
    return Started(pid, control, board, log, stacks)


LOG_SIZE = 65_536


def make_log() -> int:
    """Make the memfd that is a template's stdout and stderr after the seal: bounded, for nobody reads it in time."""
    log = fds.make_memory("warmfork-log", size=LOG_SIZE, sealable=True)
    memfds.seal_size(log)
    return log
