"""What multiprocessing needs in the template and in the child: `__main__`, the process object, its bootstrap.

Runs in the template (prepare_template) and in the child (run_process), and nowhere else.
"""

from __future__ import annotations

import atexit
import os
import sys
from marshal import loads as read_values
from multiprocessing import context, process, util
from pickle import loads

from warmfork._child import birth as birth_
from warmfork._child import ending
from warmfork._machine import role
from warmfork.doors import resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from warmfork._child.birth import Birth

RUNS_EXIT_HANDLERS = sys.version_info >= (3, 13)
"""multiprocessing's children run atexit handlers since 3.13 (gh-83856)."""

GUARD = "An attempt has been made to start a new process before the"
"""How multiprocessing begins to say that the main module is not guarded."""

inherited: list[int] = []
"""The fds that came with the process object."""


class InheritedFd:
    """Stands for an fd in a pickle, by its place among those that were sent along."""

    def __init__(self, index: int) -> None:
        self.index = index

    def detach(self) -> int:
        """Give the fd, in the child."""
        return inherited[self.index]


def prepare_template(kind: str, value: str, installed: str) -> list[str]:
    """Run `__main__` as `__mp_main__`, once for all children (rows 12 to 16). Gives notes for the client's log."""
    resources.take_over("")
    if installed:
        from warmfork.doors.install import adopt_installed

        adopt_installed()
    else:
        import warmfork.doors.context  # noqa: F401  # which the children need
    current = process.current_process()
    # Programs ask these two whether they are the main program: an application that saw "MainProcess" started a second
    # server in the template (row 13).
    current.name = "ForkServerProcess"
    process._parent_process = process._ParentProcess("MainProcess", os.getppid(), -1)  # type: ignore[attr-defined]
    if not kind:
        return []
    current._inheriting = True  # type: ignore[attr-defined]
    try:
        import_main(kind, value)
    except RuntimeError as error:
        if GUARD in str(error):
            error.warmfork_item = "__main__"  # type: ignore[attr-defined]
            raise
        return [describe_failure(error)]
    except BaseException as error:
        return [describe_failure(error)]
    finally:
        del current._inheriting  # type: ignore[attr-defined]
    return []


def describe_failure(error: BaseException) -> str:
    """Say that children will import `__main__` themselves, and why."""
    return f"__main__ could not be preloaded, each child imports it itself: {type(error).__name__}: {error}"


def import_main(kind: str, value: str) -> None:
    """Run the main module as `__mp_main__`, unless this process has done that already."""
    from multiprocessing import spawn

    if kind == "name":
        spawn._fixup_main_from_name(value)  # type: ignore[attr-defined]
    elif kind == "path":
        spawn._fixup_main_from_path(value)  # type: ignore[attr-defined]


def run_process(birth: Birth) -> int:
    """The entry of a multiprocessing.Process. Gives its exit code."""
    atexit._clear()
    if RUNS_EXIT_HANDLERS:
        atexit.register(util._exit_function)
    code = 1
    try:
        code = bootstrap(birth)
    finally:
        if RUNS_EXIT_HANDLERS:
            atexit._run_exitfuncs()
            ending.flush()
    return code


def bootstrap(birth: Birth) -> int:
    """Unpickle the process object and run it."""
    current = process.current_process()
    current._inheriting = True  # type: ignore[attr-defined]
    try:
        size = int.from_bytes(birth.payload[:4], "little")
        said = read_values(birth.payload[4 : 4 + size])
        prepare(said, birth)
        obj = loads(birth.payload[4 + size :])
    except BaseException as error:
        birth_.fail(birth, error)
        sys.excepthook(*sys.exc_info())
        ending.flush()
        return 1
    finally:
        del current._inheriting  # type: ignore[attr-defined]
    birth.payload = b""
    birth.finish_becoming()
    birth.socket.close()
    code: int = obj._bootstrap(parent_sentinel=birth.parent)
    return code


def prepare(said: dict[str, Any], birth: Birth) -> None:
    """Take what the parent said of itself: what multiprocessing.spawn.prepare() takes, less what birth has applied."""
    inherited[:] = birth.fds
    current = process.current_process()
    current.name = said["name"]
    current.authkey = said["authkey"]
    if said["log_to_stderr"]:
        util.log_to_stderr()
    if said["log_level"] is not None:
        util.get_logger().setLevel(said["log_level"])
    process.ORIGINAL_DIR = said["orig_dir"]  # type: ignore[attr-defined]
    tracker = said["tracker_fd"]
    resources.adopt_child(inherited[tracker] if tracker >= 0 else -1)
    if said["installed"] is not None:
        from warmfork.doors.install import adopt_installed

        adopt_installed(said["installed"], role.spec)
    if said["context"] is not None:
        from warmfork.doors.context import rebuild_context

        context._default_context._actual_context = rebuild_context(said["context"], role.spec)  # type: ignore[attr-defined]
    elif said["start_method"] is not None:
        context._force_start_method(said["start_method"])  # type: ignore[attr-defined]
    import_main(*said["main"])
