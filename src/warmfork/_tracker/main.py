"""A tracker's life: fork the first template off while this interpreter is still bare, then keep the tree's books."""

from __future__ import annotations

import gc
import os
import sys

from warmfork._machine import fds, memory, pids, signals, sockets
from warmfork._tracker import first as first_

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from warmfork._tracker.first import BeTemplate
    from warmfork._tracker.server import MakeNames

DOOR, LEDGER, OWN = 3, 4, 5

SERVED_AT = 8
"""Where the ledger says that a tracker has served, before its first record (see the ledger module, not loaded yet)."""


def main(be_template: BeTemplate, make_names: MakeNames) -> NoReturn:
    """Be the tracker of the tree whose processes hold the other end of fd 3, or find that another process is.

    Fd 4 is the tree's ledger. The program has written in it whose tree it is before it says anything at the door; what a
    tracker before this one knew is there, too. Fd 5 is the receiving end of the program's own socket.
    """
    pids.give_up_gained()
    raise_limits()
    close_inherited((DOOR, LEDGER, OWN))
    signals.set_mask(signals.HELPERS_BLOCK)
    if not memory.lock(LEDGER):
        os._exit(0)  # two of those who saw the tracker's death were as quick as each other
    door, own = sockets.adopt_socket(DOOR), sockets.adopt_socket(OWN)
    for fd in (DOOR, LEDGER, OWN):
        os.set_inheritable(fd, False)
    first = started = None
    if os.pread(LEDGER, 1, SERVED_AT) in (b"", b"\0"):
        fds.wait_readable(DOOR, None)  # what we are wanted for: a Hello, or a name; or the program's end
        if os.fstat(LEDGER).st_size == 0:
            os._exit(0)  # the program has let go of us before it said anything
        first = receive_hello(door)
    if first is not None and first_.is_bare():  # else by exec, as later ones are
        # A second interpreter would take 8 ms more. This one has the program's flags, environment and site, and has
        # imported nothing yet that a template does not need.
        started = first_.fork_template(LEDGER, (door, own), first, be_template)
    from warmfork._tracker.book import Book

    # Now, for the first template may die while we keep out of its way, and its children would go past us.
    pids.become_subreaper()
    book = Book(LEDGER)
    os.pwrite(LEDGER, b"\1", SERVED_AT)
    # While the program waits for its template: later it may have become another program.
    stack = pids.read_start_stack(book.get_root().pid)
    if started is not None:
        # The program waits for the template and for nothing else: leave it the processor, and come after.
        fds.wait_readable(started.control.fileno(), PATIENCE)
        fds.wait_readable(DOOR, FURTHER_PATIENCE)
    import warnings

    from warmfork._tracker.server import Tracker

    warnings.simplefilter(
        "ignore"
    )  # of a fork beside a thread of sitecustomize's: the program's options may make it an error
    gc.enable()
    code = 1
    try:
        server = Tracker(door, own, book, stack, make_names)
        if first is not None:
            server.serve_first(first, started)
        code = server.serve()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


PATIENCE, FURTHER_PATIENCE = 1.0, 0.02
"""Seconds that the tracker stays out of the way of the first template, and then of the first child."""


def raise_limits() -> None:
    """Have as many open files, and files as large, as we may: the tree is not to hang on what its program may have.
    Templates have that from us; children get the program's limits at their birth."""
    from resource import RLIM_INFINITY, RLIMIT_FSIZE, RLIMIT_NOFILE, getrlimit, setrlimit

    for limit, wanted in ((RLIMIT_NOFILE, None), (RLIMIT_FSIZE, RLIM_INFINITY)):
        soft, hard = getrlimit(limit)
        try:
            setrlimit(limit, (hard, hard) if wanted is None else (wanted, wanted))
        except (OSError, ValueError):  # only root may have more than the hard limit
            if soft != hard:
                setrlimit(limit, (hard, hard))


def close_inherited(kept: tuple[int, ...]) -> None:
    """Close what the program's fork or exec has left open for us by accident. What is close-on-exec was opened here, by a
    sitecustomize maybe, and has somebody who uses it."""
    from fcntl import F_GETFD, fcntl

    for fd in fds.list_fds():
        if fd > 2 and fd not in kept and not fcntl(fd, F_GETFD):
            os.close(fd)


def receive_hello(door: sockets.socket) -> sockets.Received | None:
    """Receive what waits at the door if it is a Hello; anything else stays there, for the loop."""
    try:
        if door.recv(1, PEEK)[:1] != b"\1":
            return None
        return sockets.receive(door)
    except OSError:
        return None


PEEK = 0x42
"""MSG_PEEK | MSG_DONTWAIT."""
