"""The bare process of `warmfork doctor`: imports as a template would, and writes down what that did to it.

It is started as a file of its own and imports nothing but Python's core and our ground floor, so that what it counts is
what it was asked about. Its first words come by stdin and its findings leave by a pipe, as marshal writes them.
"""

from __future__ import annotations

import _frozen_importlib
import _thread
import marshal
import os
import sys
from fcntl import F_DUPFD_CLOEXEC, fcntl
from time import perf_counter, sleep

from warmfork._child import reseeding
from warmfork._machine import fds, locks, memory, pids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

ENDING = 0.05
"""Seconds that a thread which a fork stops may take until the kernel knows it no longer."""


class Import:
    """A module that is being imported: when it began, and what it has brought so far."""

    __slots__ = ("began", "below_kib", "below_ms", "kib", "label", "name", "own_fds", "threads")

    def __init__(self, name: str, label: str, began: float, kib: int, threads: set[int], own_fds: set[int]) -> None:
        self.name, self.label, self.began, self.kib = name, label, began, kib
        self.threads, self.own_fds = threads, own_fds
        self.below_ms, self.below_kib = 0.0, 0


class Importer:
    """Watches imports, in the main thread: time and memory of each module, its own and with what it brings."""

    def __init__(self) -> None:
        self.stack: list[Import] = []
        self.modules: list[dict[str, Any]] = []
        self.spent = 0.0  # by looking, which is not the modules' time
        self.threads: dict[int, tuple[str, str]] = {}
        self.descriptors: dict[int, str] = {}
        self.main = _thread.get_ident()
        self.original: Any = None

    def begin(self) -> None:
        """Watch from now on."""
        self.original = _frozen_importlib._find_and_load  # type: ignore[attr-defined]
        _frozen_importlib._find_and_load = self.find_and_load  # type: ignore[attr-defined]

    def find_and_load(self, name: str, import_: Any) -> Any:
        """What the import statement calls for a module that is not there yet."""
        if name in sys.modules or _thread.get_ident() != self.main:
            return self.original(name, import_)
        package = name.rpartition(".")[0]
        if package and package not in sys.modules:  # it comes first, and is not brought by what is in it
            self.find_and_load(package, import_)
            if name in sys.modules:
                return self.original(name, import_)
        self.enter(name)
        try:
            return self.original(name, import_)
        finally:
            self.leave()

    def enter(self, name: str, item: str = "") -> None:
        """A module begins, or (with no name) an item of the list."""
        now = perf_counter()
        kib, threads, own = memory.get_resident_kib(), list_tasks(), set(fds.list_fds())
        self.spent += perf_counter() - now
        self.stack.append(Import(name, item or name, perf_counter() - self.spent, kib, threads, own))

    def leave(self) -> None:
        """It has ended."""
        now = perf_counter()
        one = self.stack.pop()
        ms = (now - self.spent - one.began) * 1000
        kib = memory.get_resident_kib() - one.kib
        for task in list_tasks() - one.threads:
            self.threads.setdefault(task, (name_task(task), one.label))
        for fd in set(fds.list_fds()) - one.own_fds:
            self.descriptors.setdefault(fd, one.label)
        if self.stack:
            self.stack[-1].below_ms += ms
            self.stack[-1].below_kib += kib
        if one.name in sys.modules:
            by = self.stack[-1].name if self.stack else ""
            own_ms, own_kib = ms - one.below_ms, kib - one.below_kib
            self.modules.append(
                {"name": one.name, "by": by, "ms": ms, "own_ms": own_ms, "kib": kib, "own_kib": own_kib}
            )
        self.spent += perf_counter() - now

    def get_current(self) -> str:
        """Give the module whose import runs."""
        return self.stack[-1].label if self.stack else ""


def list_tasks() -> set[int]:
    """List the threads of this process besides the main one."""
    return {int(task) for task in os.listdir("/proc/self/task")} - {os.getpid()}


def name_task(task: int) -> str:
    """Give the name of a thread: Python's, or the kernel's."""
    threading = sys.modules.get("threading")
    for thread in threading.enumerate() if threading is not None else ():
        if thread.native_id == task:
            return str(thread.name)
    try:
        with open(f"/proc/self/task/{task}/comm", errors="replace") as file:
            return f"{file.read().strip()} (native)"
    except OSError:
        return "a native thread"


def describe_fd(fd: int) -> tuple[str, str] | None:
    """Give what an fd is ("listening socket", "socket", "gpu", "file" ...) and its target; None where it is closed."""
    try:
        target = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return None
    if target.startswith(fds.GPU_DEVICES):
        return "gpu", target
    if target.startswith("socket:"):
        inode = target[8:-1]
        for table in ("tcp", "tcp6"):
            with open(f"/proc/self/net/{table}") as file:
                for line in file:
                    parts = line.split()
                    if len(parts) > 9 and parts[9] == inode:
                        state = {"0A": "listening socket", "01": "connected socket"}.get(parts[3], "socket")
                        return state, f"{table} port {int(parts[1].rpartition(':')[2], 16)}"
        return "socket", target
    if target.startswith("/") and not target.startswith("/dev/"):
        return "file", target
    return "other", target


class Environment:
    """Notes which module reads which variable of os.environ, and which are set."""

    def __init__(self, importer: Importer) -> None:
        self.seen: dict[tuple[str, str], bool] = {}
        seen, real = self.seen, type(os.environ)

        class Watched(real):  # type: ignore[valid-type, misc]
            """os.environ, seen by a wrapper."""

            def __getitem__(self, name: str) -> str:
                where = importer.get_current()
                try:
                    value: str = real.__getitem__(self, name)
                except KeyError:
                    seen.setdefault((str(name), where), False)
                    raise
                seen[str(name), where] = True
                return value

        os.environ.__class__ = Watched

    def list_all(self) -> list[tuple[str, str, bool]]:
        """Give (variable, module, is it set)."""
        return [(name, module, is_set) for (name, module), is_set in self.seen.items()]


def watch_fork_handlers(importer: Importer) -> list[tuple[str, str]]:
    """Note who registers functions that run at forks. Gives the list that they are put on: (module, when)."""
    found: list[tuple[str, str]] = []
    register = os.register_at_fork

    def register_and_note(**functions: Any) -> None:
        register(**functions)
        caller = str(sys._getframe(1).f_globals.get("__name__"))
        found.extend((importer.get_current() or caller, when) for when in functions)

    os.register_at_fork = register_and_note
    return found


def load(item: str) -> None:
    """Import a module, or call the function of one, or run a script as `__mp_main__`."""
    if item.endswith(".py") or "/" in item:
        run_script(item)
        return
    module, _, function = item.partition(":")
    __import__(module)
    found: Any = sys.modules[module]
    for part in function.split(".") if function else ():
        found = getattr(found, part)
    if function:
        found()


def run_script(path: str) -> None:
    """Run a script as a template does: as `__mp_main__`, so that what is under its guard does not run."""
    kind: Any = type(sys)
    module: ModuleType = kind("__mp_main__")
    module.__file__ = path
    with open(path, "rb") as file:
        code = compile(file.read(), path, "exec", dont_inherit=True)
    sys.modules["__mp_main__"] = sys.modules["__main__"] = module
    exec(code, module.__dict__)


def fork_once(patience: float) -> bool:
    """Fork a child and throw it away: at-fork handlers of native libraries stop their threads. Gives whether the child
    came through those of its own in time."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    pidfd = pids.open_pidfd(pid)
    came = fds.wait_readable(pidfd, patience)
    os.close(pidfd)
    if not came:
        os.kill(pid, 9)
    os.waitpid(pid, 0)
    return came


def find_staying(threads: dict[int, tuple[str, str]]) -> set[int]:
    """Give the threads that are there after a fork: those that a fork stops have a moment to end."""
    until = perf_counter() + ENDING
    while list_tasks() & threads.keys() and perf_counter() < until:
        sleep(ENDING / 20)
    return list_tasks() & threads.keys()


def list_gpu_maps() -> list[str]:
    """List the GPU devices of which memory is mapped."""
    with open("/proc/self/maps", errors="replace") as file:
        paths = {line.split(maxsplit=5)[-1].strip() for line in file if line.count("/dev/")}
    return sorted(path for path in paths if path.startswith(fds.GPU_DEVICES))


def run_canaries(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Fork two children that do what children do, each with a deadline. Gives what each says, or what became of it."""
    from warmfork.cli import canary

    reseeding.prepare()
    return [canary.send(settings) for _ in range(2)]


_out = -1
OUT = 500
"""From where on the pipe's fd is: out of the way of low numbers, which modules open."""


def take_settings() -> dict[str, Any]:
    """Read what doctor asks for."""
    global _out
    with open(0, "rb", closefd=False) as file:
        settings: dict[str, Any] = marshal.loads(file.read())
    _out = fcntl(settings["out"], F_DUPFD_CLOEXEC, OUT)
    os.close(settings["out"])
    null = fds.open_null()
    os.dup2(null, 0)
    os.close(null)
    return settings


def say(kind: str, value: Any) -> None:
    """Send one thing to doctor."""
    data = marshal.dumps((kind, value))
    data = len(data).to_bytes(4, "little") + data
    while data:
        data = data[os.write(_out, data) :]


def main() -> None:
    """Import what was asked for, and tell."""
    settings = take_settings()
    sys.path[:0] = [settings["folder"]]
    sys.argv = [settings["items"][0]]
    importer = Importer()
    environment = Environment(importer)
    handlers = watch_fork_handlers(importer)
    importer.begin()
    items = []
    for number, item in enumerate(settings["items"]):
        say("progress", (number, item))
        importer.enter("", item)
        one = importer.stack[-1]
        error = ""
        try:
            load(item)
        except BaseException as caught:  # SystemExit too
            error = f"{type(caught).__name__}: {caught}"
        took, grew = (perf_counter() - importer.spent - one.began) * 1000, memory.get_resident_kib() - one.kib
        importer.leave()
        items.append({"item": item, "ms": took, "kib": grew, "error": error})
    importer.enter("")  # what follows is not the modules'
    say("items", items)
    say("modules", importer.modules)
    say("environment", environment.list_all())
    say("variables", sorted(os.environ))
    say("handlers", sorted(set(handlers)))
    say("locks", locks.find_held())
    listed = [(fd, module, describe_fd(fd)) for fd, module in importer.descriptors.items()]
    say("fds", [(fd, module, *what) for fd, module, what in listed if what is not None])
    say("gpus", sorted({*fds.list_gpus(), *list_gpu_maps()}))
    import _signal

    say("sigchld_ignored", _signal.getsignal(_signal.SIGCHLD) == _signal.SIG_IGN)
    # Where it is ignored, the kernel forgets how the children below ended.
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    say("progress", (len(items), "a throw-away fork"))
    before = {task: found for task, found in importer.threads.items() if task in list_tasks()}
    came = fork_once(settings["deadline"])
    staying = find_staying(before)
    say("threads", [(name, module, task in staying) for task, (name, module) in before.items()])
    say("progress", (len(items), "canary children"))
    _frozen_importlib._find_and_load = importer.original  # type: ignore[attr-defined]
    say("canaries", run_canaries(settings) if came else [{"hung": "in a function that runs in each forked child"}])
    say("end", True)


if __name__ == "__main__":
    main()
    os._exit(0)
