"""What multiprocessing needs in the template and in the child: `__main__`, the process object, its bootstrap.

Runs in the template (prepare_template) and in the child (run_process), and nowhere else.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from _pickle import dumps, loads  # pickle's own C functions, without the Python around them
from itertools import count
from marshal import dumps as write_values
from marshal import loads as read_values
from multiprocessing import context, process
from multiprocessing import util as util_

from warmfork._child import birth as birth_
from warmfork._child import ending, stdio
from warmfork._machine import role
from warmfork.mp.child.main_module import import_main
from warmfork.mp.shared import carried, installed, patching
from warmfork.mp.shared import names as resources
from warmfork.mp.shared.process import ContextProcess, forget_context, rebuild_context
from warmfork.mp.shared.stdlib import is_stdlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from warmfork._child.birth import Birth


util: Any = util_  # most of what is used of it is private

RUNS_EXIT_HANDLERS = sys.version_info >= (3, 13)
"""multiprocessing's children run atexit handlers since 3.13 (gh-83856)."""

GUARD = "An attempt has been made to start a new process before the"
"""How multiprocessing begins to say that the main module is not guarded."""

main_failed = False
"""Could the template not run `__main__`? Children do it themselves then."""


def prepare_template(kind: str, value: str, has_installed: str) -> list[str]:
    """Run `__main__` as `__mp_main__`, once for all children (rows 12 to 16). Gives notes for the client's log."""
    resources.take_over()
    if has_installed:
        patching.patch()
    current = process.current_process()
    # Programs ask these two whether they are the main program: an application that saw "MainProcess" started a second
    # server in the template (row 13).
    current.name = "ForkServerProcess"
    process._parent_process = process._ParentProcess("MainProcess", os.getppid(), -1)  # type: ignore[attr-defined]
    import_wanted()
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


def import_wanted() -> None:
    """Import what the client has of multiprocessing and is likely to refer to in what it sends to its children."""
    if role.spec is not None and role.spec.wanted:
        from warmfork._machine import wanted

        for module in wanted.list_missing(role.spec.wanted):
            wanted.load(module)


def describe_failure(error: BaseException) -> str:
    """Note that children will import `__main__` themselves, and say why."""
    global main_failed
    main_failed = True
    return f"__main__ could not be preloaded, each child imports it itself: {type(error).__name__}: {error}"


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
    return code


def bootstrap(birth: Birth) -> int:
    """Unpickle the process object and run it."""
    try:
        obj = unpickle_process(birth)
    except BaseException as error:
        birth_.fail(birth, error)
        sys.excepthook(*sys.exc_info())
        return 1
    birth.finish_becoming()
    birth.socket.close()
    if is_stdlib(type(obj)._bootstrap, process):
        return run_leanly(obj, birth.parent)
    code: int = obj._bootstrap(parent_sentinel=birth.parent)  # somebody (coverage) has put something round it
    return code


def unpickle_process(birth: Birth) -> Any:
    """Take what the parent said of itself, then unpickle the process object."""
    current = process.current_process()
    current._inheriting = True  # type: ignore[attr-defined]
    try:
        size = int.from_bytes(birth.payload[:4], "little")
        prepare(read_values(birth.payload[4 : 4 + size]), birth)
        return loads(birth.payload[4 + size :], buffers=birth.buffers)
    finally:
        del current._inheriting  # type: ignore[attr-defined]
        birth.payload, birth.buffers = b"", []


def run_leanly(obj: Any, parent: int) -> int:
    """Do what BaseProcess._bootstrap does, less what is done already: 30 us where that takes 150, cold.

    Not done again: closing stdin (it is /dev/null, and so is sys.stdin). util.info() only where somebody logs.
    """
    code = 1
    try:
        become_process(obj, parent)
        run_after_forkers(obj)
        if util._logger is not None:
            util.info("child process calling self.run()")
        try:
            obj.run()
        finally:
            if not RUNS_EXIT_HANDLERS:
                util._exit_function()
        code = 0
    except SystemExit as error:
        code = ending.read_code(error.code)  # as BaseProcess._bootstrap reads it
    except BaseException:
        from traceback import print_exc

        if sys.stderr is not None:
            sys.stderr.write(f"Process {obj.name}:\n")
            print_exc()
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        if util._logger is not None:
            util.info("process exiting with exitcode %d", code)
        stdio.flush()
    return code


def become_process(obj: Any, parent: int) -> None:
    """Be this process, in multiprocessing's eyes."""
    if obj._start_method is not None:
        context._force_start_method(obj._start_method)
    process._process_counter = count(1)  # type: ignore[attr-defined]
    process._children = set()  # type: ignore[attr-defined]
    process._current_process = obj  # type: ignore[attr-defined]
    process._parent_process = process._ParentProcess(obj._parent_name, obj._parent_pid, parent)  # type: ignore[attr-defined]


def run_after_forkers(obj: Any) -> None:
    """Forget the parent's finalizers, and call what is registered for processes that are new."""
    if util._afterfork_registry or util._finalizer_registry or not is_stdlib(type(obj)._after_fork, process):
        obj._after_fork()


def prepare(said: dict[str, Any], birth: Birth) -> None:
    """Take what the parent said of itself: what multiprocessing.spawn.prepare() takes, less what birth has applied."""
    carried.inherited[:] = birth.fds
    current = process.current_process()
    current.name = said["name"]
    current.authkey = said["authkey"]
    if said["log_to_stderr"]:
        util.log_to_stderr()
    if said["log_level"] is not None:
        util.get_logger().setLevel(said["log_level"])
    process.ORIGINAL_DIR = said["orig_dir"]  # type: ignore[attr-defined]
    tracker = said["tracker_fd"]
    resources.adopt_child(carried.inherited[tracker] if tracker >= 0 else -1)
    if said["installed"] is not None:
        installed.adopt(said["installed"], role.spec)
        patching.patch()
    if said["context"] is not None:
        context._default_context._actual_context = rebuild_context(said["context"], role.spec)  # type: ignore[attr-defined]
    elif said["start_method"] is not None:
        context._force_start_method(said["start_method"])
    if said["by_value"]:
        pickle_by_value(said["main_alone"])
    if said["added"] or is_prepare_replaced():
        take_additions(said)
    if said["main"] != get_preloaded_main() or main_failed:
        import_main(*said["main"])


def is_prepare_replaced() -> bool:
    """Has somebody put something round multiprocessing.spawn.prepare()?"""
    spawn = sys.modules.get("multiprocessing.spawn")
    return spawn is not None and not is_stdlib(spawn.prepare, spawn)


def take_additions(said: dict[str, Any]) -> None:
    """Take what tools in the parent have added, before anything of the user's is unpickled or imported: unpickling it is
    what most of them are after."""
    from multiprocessing import spawn

    added: dict[str, Any] = loads(said["added"]) if said["added"] else {}
    usual = {"name": said["name"], "authkey": said["authkey"], "orig_dir": said["orig_dir"]}
    spawn.prepare({**usual, **added})


def pickle_by_value(main_alone: bool) -> None:
    """Have queues and pipes send by value what the main module defines, for no other process imports it."""
    from warmfork.mp.shared import pickling

    pickling.take_over(main_alone)


def rehearse(birth: Birth | None) -> bytes:
    """Called in the template, to have the code above warm: give a payload, then (with the birth that got it) take it.
    All that is changed of this process is put back; its finalizers are left alone, for what they remove is its own."""
    current = process.current_process()
    has_installed = context.ForkServerProcess.__dict__["_Popen"].__func__ is patching.start_process
    if birth is None:
        said = {
            "name": current.name,
            "authkey": bytes(current.authkey),
            "log_to_stderr": False,
            "log_level": None,
            "orig_dir": process.ORIGINAL_DIR,  # type: ignore[attr-defined]
            "start_method": None,
            "context": None if has_installed else NO_CONTEXT,
            "installed": None,
            "by_value": False,
            "main_alone": False,
            "added": b"",
            "main": ("", "") if main_failed else get_preloaded_main(),  # never to be run a second time here
            "tracker_fd": -1,
        }
        values = write_values(said)
        obj = (context.ForkServerProcess if has_installed else ContextProcess)(name=current.name)
        context.set_spawning_popen(obj)  # type: ignore[arg-type]
        try:
            return b"".join((len(values).to_bytes(4, "little"), values, dumps(obj, 5)))
        finally:
            context.set_spawning_popen(None)
    names = ("_process_counter", "_children", "_current_process", "_parent_process", "_dangling")
    kept = {name: getattr(process, name) for name in names}
    chosen = context._default_context._actual_context  # type: ignore[attr-defined]
    try:
        obj = unpickle_process(birth)
        become_process(obj, -1)
        obj.run()
    finally:
        for name, value in kept.items():
            setattr(process, name, value)
        context._default_context._actual_context = chosen  # type: ignore[attr-defined]
        forget_context(NO_CONTEXT)
    return b""


NO_CONTEXT = ((), False, (), "ignore", 0, False)
"""A description, as of Prepared.describe(), for rehearsal."""


def get_preloaded_main() -> tuple[str, ...]:
    """Give what the spec says of `__main__`."""
    return role.spec.loader_arguments[:2] if role.spec is not None else ("", "")
