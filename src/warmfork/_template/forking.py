"""The fork of a child, and what runs in it before anything else: closing what is not the child's."""

from __future__ import annotations

import _signal
import os
import sys
from os import fork as fork  # as it is before any preload: gevent's would take SIGCHLD from us

from warmfork._machine import fds, signals, sockets, stacks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_keep: tuple[int, ...] | None = None
"""What the child keeps of the fork that is going on, or None outside a birth."""

user_wakeup = -1
user_handler: Any = signals.SIG_DFL
"""What the preload set: the fd of signal.set_wakeup_fd(), and what handles SIGCHLD. The template has its own of both."""

handlers: list[str] = []
"""Modules that have had a function called in each forked child (os.register_at_fork), but for Python's own and ours."""

PYTHONS_OWN = "loky.backend.stdlib_py314_resource_tracker"
"""loky's copy of a module of Python's, which joblib and so scikit-learn brings along. Its function has a forked process
forget its parent's tracker: a spare may do that as well as the child that it becomes."""


def close_in_child() -> None:
    """Close everything but the feed, in a child, before any other at-fork handler runs. A library's handler that hangs
    would otherwise hold every channel open. Forks that a preload makes by itself are none of ours; nor are those of a
    child, but for the place of their stacks, which would mix with its own."""
    if _keep is not None:
        _signal.set_wakeup_fd(-1)
        fds.close_all_but(_keep)
        # What the template blocks stays blocked until the child has its own dispositions.
        signals.set_disposition(signals.CHILD_DIED, signals.SIG_DFL if user_handler is None else user_handler)
        if user_wakeup in _keep:
            _signal.set_wakeup_fd(user_wakeup)
    stacks.take_own()


def watch_handlers() -> None:
    """Note from now on who registers functions for forked children. What they do belongs into processes that the program
    has started, and into no others: such as threads that report."""
    register = os.register_at_fork

    def register_and_note(**functions: Any) -> None:
        register(**functions)
        found = functions.get("after_in_child")
        if found is not None:
            caller = str(sys._getframe(1).f_globals.get("__name__"))
            for module in (str(getattr(found, "__module__", None) or caller), caller):
                if module.endswith(PYTHONS_OWN):
                    return
                if module.partition(".")[0] not in sys.stdlib_module_names | {"warmfork"}:
                    handlers.append(module)
                    return

    os.register_at_fork = register_and_note


def fork_child(kept: tuple[int, ...], apart: bool = False) -> tuple[int, sockets.socket, sockets.socket]:
    """Fork a child that keeps these fds and its end of a new feed. `apart`: it is born in a process group of its own, so
    that what is sent to ours never reaches it.

    Gives (pid, feed, client's end): in the child pid is 0 and the client's end is closed, in the template the child's
    is. Raises OSError, whose filename is the call that failed.
    """
    global _keep
    step = "socketpair"
    group = os.getpgrp()
    try:
        ours, theirs = sockets.make_pair()
        sockets.ask_for_credentials(ours)
        step = "fork"
        _keep = tuple(sorted((*kept, ours.fileno())))
        if apart:
            os.setpgid(0, 0)  # so that no moment is left in which the child is in our group
        pid = fork()
    except OSError as error:
        if step == "fork":
            ours.close()
            theirs.close()
        raise OSError(error.errno, error.strerror, step) from error
    finally:
        _keep = None
        if apart:
            go_back(group)
    if pid == 0:
        theirs.detach()  # closed by number already
    else:
        ours.close()
    return pid, ours, theirs


def go_back(group: int) -> None:
    """In the template: be in this process group again. In a spare: have one of its own. A group whose other processes
    are dead is gone, and then the template keeps its own."""
    try:
        os.setpgid(0, group if os.getpid() == os.getpgrp() else 0)
    except PermissionError:
        return
