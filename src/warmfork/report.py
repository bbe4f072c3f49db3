"""What `warmfork run -v` and WARMFORK_REPORT=1 say at a program's end: which processes were started, and by whom.

It counts what this program starts itself. Each Python program that it runs counts for itself, and tells it where it has
started something. What the children of a template start is not counted.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, ModuleType
    from typing import Any

EVENTS = {
    "os.fork": "fork",
    "os.forkpty": "fork",
    "os.posix_spawn": "posix_spawn",
    "os.system": "os.system",
    "subprocess.Popen": "subprocess",
}
"""Audit events, and what the report calls them."""

HELPERS = ("/warmfork/_tracker/start.py", "/warmfork/_template/start.py")
"""How the command lines of warmfork's own processes end: they have nothing to tell."""

counts: dict[tuple[str, str], int] = {}
"""How often processes were started: by a way, for a library ("" is the program itself)."""
_pid = 0


def begin(watch: Callable[[str, Callable[[ModuleType], None]], None]) -> None:
    """Count from now on, and tell it at the end. Calling it again does nothing. `watch` is the start-up hook's."""
    global _pid
    if _pid == os.getpid() or sys.orig_argv[-1:] == [] or sys.orig_argv[-1].endswith(HELPERS):
        return
    first = not _pid
    _pid = os.getpid()
    counts.clear()
    if not first:
        return  # a forked child has the hooks already
    import atexit

    atexit.register(tell)
    sys.addaudithook(hear)
    watch("warmfork._client.handle", watch_children)
    watch("multiprocessing.process", watch_processes)
    watch("_posixsubprocess", watch_fork_exec)


def count(how: str, who: str = "") -> None:
    """Count a start."""
    if os.getpid() == _pid:
        counts[how, who] = counts.get((how, who), 0) + 1


def hear(event: str, _arguments: object) -> None:
    """Hear an audit event of the interpreter."""
    how = EVENTS.get(event)
    if how is not None:
        modules = list_modules()
        who = find_library(modules)
        # subprocess.Popen has had its own event; the helpers that warmfork starts are no processes of the program.
        if who != "warmfork" and not (how == "posix_spawn" and "subprocess" in modules):
            count(how, who)


def list_modules() -> list[str]:
    """Give the modules whose code runs, the innermost first."""
    found = []
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        found.append(str(frame.f_globals.get("__name__", "")))
        frame = frame.f_back
    return found


def find_library(modules: list[str]) -> str:
    """Give the library for which something is started: "" where it is the program's own code."""
    for module in modules:
        top = module.partition(".")[0]
        if top == "__main__":
            return ""
        if module == __name__ or top in sys.stdlib_module_names:
            continue
        return "loky" if ".loky" in module else top
    return ""


def watch_children(module: ModuleType) -> None:
    """Count what warmfork starts: each child has a handle."""
    original = module.Child.__init__

    def initialize(self: Any, *arguments: Any) -> None:
        original(self, *arguments)
        count("warmfork")

    module.Child.__init__ = initialize


def watch_processes(module: ModuleType) -> None:
    """Count what the stdlib's forkserver starts, should anything be left to it."""
    original = module.BaseProcess.start

    def start(self: Any) -> None:
        original(self)
        if type(self._popen).__module__ == "multiprocessing.popen_forkserver":
            count("multiprocessing's forkserver", find_library(list_modules()))

    module.BaseProcess.start = start


def watch_fork_exec(module: Any) -> None:
    """Count what multiprocessing's spawn starts, for which there is no audit event."""
    original = module.fork_exec

    def fork_exec(*arguments: Any) -> int:
        modules = list_modules()
        helper = any(name.endswith((".resource_tracker", ".forkserver")) for name in modules[:4])
        if not helper and "subprocess" not in modules[:4]:
            count("spawn", find_library(modules))
        pid: int = original(*arguments)
        return pid

    module.fork_exec = fork_exec


def describe() -> str:
    """Give the report's line."""
    total = sum(counts.values())
    if not total:
        return "no processes"
    parts = [
        f"{number} by {how}" + (f" ({who})" if who else "")
        for (how, who), number in sorted(counts.items(), key=lambda item: (item[0][0] != "warmfork", -item[1]))
    ]
    return f"{total} process{'es' if total != 1 else ''}: {', '.join(parts)}"


def tell() -> None:
    """Write the report to stderr: always for the program that was asked, for others where there is something."""
    if os.getpid() != _pid:
        return
    # Nothing is imported here: at its end a program may have no folder left to import from.
    role = sys.modules.get("warmfork._machine.role")  # which helpers and children have
    process = sys.modules.get("multiprocessing.process")
    child = role is not None and role.kind != role.PROGRAM
    child = child or (process is not None and process.parent_process() is not None)
    nested = child or os.environ.get("WARMFORK_REPORT", "") not in ("1", str(_pid))
    if nested and not counts:
        return
    who = f"pid {_pid} ({os.path.basename(sys.argv[0] or 'python')}): " if nested else ""
    try:
        sys.stderr.write(f"warmfork: {who}{describe()}\n")
    except (AttributeError, OSError, ValueError):
        return  # no stderr: there is nobody to tell
