"""Watching imports: call somebody when a module has run, now or later, without importing it."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

WATCHED: dict[str, Callable[[ModuleType], None]] = {}
"""What to call when a module of that name has run."""


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
