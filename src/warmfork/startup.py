"""The start-up hook: installs warmfork in a program that knows nothing of it.

`warmfork_startup.pth` in site-packages calls activate() in every interpreter that has WARMFORK_RUN
set. That is before the program's first line, so three things must never happen here: importing
multiprocessing (a program that does without it must not pay), importing anything else that costs,
and stopping the interpreter. A failure is one line on stderr, and the program runs on the stdlib.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

VARIABLE = "WARMFORK_RUN"
TARGET = "multiprocessing.context"
NAMING = ("multiprocessing.synchronize", "multiprocessing.resource_tracker")
WATCHED: dict[str, Callable[[ModuleType], None]] = {}
"""What to call when a module has run: install() watches a few of multiprocessing's in this way too."""


def activate() -> None:
    """Arrange for warmfork to be installed once multiprocessing is there. Calling it again does nothing."""
    if os.environ.get(VARIABLE, "0") not in ("", "0") and TARGET not in WATCHED:
        watch(TARGET, lambda module: install())


def watch(name: str, callback: Callable[[ModuleType], None]) -> None:
    """Call this with the module of that name whenever it has run: now if it has, and each time that it does."""
    WATCHED[name] = callback
    # The lines of a .pth run twice in a virtual environment before 3.15, and two finders that
    # each ask all the others would recurse for ever.
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder())
    # Inserted first, then looked: whoever imports it from now on passes the finder, whoever came
    # before is seen here. If another thread is in the middle of it, the import waits for that thread.
    if name in sys.modules:
        __import__(name)
        callback(sys.modules[name])


def watch_names() -> list[str]:
    """Have what multiprocessing gives names to (Lock, SharedMemory) tracked by our tracker, from the moment at which it
    could give one. Also the loader of templates that are not multiprocessing's: their children inherit it."""
    for module in NAMING:
        if module not in WATCHED:
            watch(module, patch_names)
    return []


def prepare(folder: str = "") -> list[str]:
    """The loader of templates that will run code: what their children need for that (1 ms) is loaded here, once. `folder`
    is where to preload; the seal puts back what it was."""
    from warmfork._child import run as run

    if folder:
        os.chdir(folder)
    return watch_names()


def patch_names(_module: ModuleType) -> None:
    """The program is about to make something with a name."""
    from warmfork.mp.shared import names as resources

    resources.take_over()


def install() -> None:
    """Put warmfork in the stdlib's place, or say in one line why not."""
    try:
        from warmfork.mp.client.install import install_from_environment

        install_from_environment()
    except Exception as error:
        report(error)


def report(error: Exception) -> None:
    """One line on stderr, if there is one."""
    cause = " ".join(str(error).split())
    line = f"warmfork: not active in pid {os.getpid()}: {type(error).__name__}: {cause}\n"
    try:
        sys.stderr.write(line)
    except (AttributeError, OSError, ValueError):
        # No stderr (None), a broken one, or a closed one: there is nobody to tell, and the
        # program's own business goes on.
        return


class Finder:
    """Finds a watched module as the others do, with a loader that calls back after it.

    It stays for the life of the program: who throws multiprocessing out of sys.modules and imports
    it again gets a new popen_forkserver, which needs installing as the first did.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in WATCHED:
            return None
        for finder in list(sys.meta_path):
            if isinstance(finder, Finder) or not hasattr(finder, "find_spec"):
                continue
            spec: ModuleSpec | None = finder.find_spec(name, path, target)
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    spec.loader = Loader(spec.loader)  # type: ignore[assignment]
                return spec
        return None


class Loader:
    """Steps aside before the module runs, so that nothing in it can tell the difference."""

    def __init__(self, original: Any) -> None:
        self.original = original

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self.original.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.original
        if module.__spec__ is not None:
            module.__spec__.loader = self.original
        self.original.exec_module(module)
        callback = WATCHED.get(module.__name__)
        if callback is not None:
            callback(module)
