"""The fork of a child, and what runs in it before anything else: closing what is not the child's."""

from __future__ import annotations

import _signal
from os import fork as fork  # as it is before any preload: gevent's would take SIGCHLD from us

from warmfork._machine import fds, signals, stacks

_keep: tuple[int, ...] | None = None
"""What the child keeps of the fork that is going on, or None outside a birth."""


def close_in_child() -> None:
    """Close everything but the feed, in a child, before any other at-fork handler runs. A library's handler that hangs
    would otherwise hold every channel open (M11). Forks that a preload makes by itself are none of ours; nor are those
    of a child, but for the place of their stacks, which would mix with its own."""
    if _keep is not None:
        _signal.set_wakeup_fd(-1)
        fds.close_all_but(_keep)
        # What the template blocks stays blocked until the child has its own dispositions.
        signals.set_disposition(signals.CHILD_DIED, signals.SIG_DFL)
    stacks.take_own()


def fork_child(kept: tuple[int, ...]) -> tuple[int, fds.socket, fds.socket]:
    """Fork a child that keeps these fds and its end of a new feed.

    Gives (pid, feed, client's end): in the child pid is 0 and the client's end is closed, in the template the child's
    is. Raises OSError, whose filename is the call that failed.
    """
    global _keep
    step = "socketpair"
    try:
        ours, theirs = fds.make_pair()
        step = "fork"
        _keep = tuple(sorted((*kept, ours.fileno())))
        pid = fork()
    except OSError as error:
        if step == "fork":
            ours.close()
            theirs.close()
        raise OSError(error.errno, error.strerror, step) from error
    finally:
        _keep = None
    if pid == 0:
        theirs.detach()  # closed by number already
    else:
        ours.close()
    return pid, ours, theirs
