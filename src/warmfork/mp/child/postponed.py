"""multiprocessing without what a first child rarely needs: that is loaded by whoever uses it, or later.

`import multiprocessing` brings the signal module (enum) and multiprocessing.reduction (pickle, re, functools, socket),
two thirds of its time, for two lines that run when it is imported. In a template these two modules are there, and run
at the first look into them; a template that is idle has them run for all its later children (finish). What looks into
them sees no difference: the same object, filled by the module's own loader.
"""

from __future__ import annotations

import sys
from _thread import RLock

from warmfork._machine import role

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

else:
    ModuleType = type(sys)

REDUCTION, SIGNAL = "multiprocessing.reduction", "signal"
HEAVY = (
    "enum", "signal", "collections", "functools", "re._parser", "re", "pickle", "selectors", "socket", REDUCTION
)  # fmt: skip
"""What finish() loads, in pieces of a few milliseconds."""

KNOWN = {
    "__name__", "__spec__", "__loader__", "__package__", "__file__", "__cached__", "__path__", "__class__",
    "HAVE_SEND_HANDLE",
}  # fmt: skip
"""What is known of a module before it has run. multiprocessing.context asks for the last one, of reduction, since 3.14."""


class Postponed(ModuleType):
    """A module that has not run yet, and does when something else of it is asked for."""

    def __getattribute__(self, name: str) -> Any:
        if name not in KNOWN:
            run(self)
        return ModuleType.__getattribute__(self, name)

    def __setattr__(self, name: str, value: object) -> None:
        if name not in KNOWN:
            run(self)
        ModuleType.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        run(self)
        ModuleType.__delattr__(self, name)


_lock = RLock()
_running: set[int] = set()
_callbacks: dict[str, Callable[[], None]] = {}


def run(module: ModuleType) -> None:
    """Run a postponed module, once. Another thread that asks waits; its own code, while it runs, sees it as it is."""
    with _lock:
        if type(module) is not Postponed or id(module) in _running:
            return
        _running.add(id(module))
        try:
            module.__spec__.loader.exec_module(module)  # type: ignore[union-attr]
            ModuleType.__setattr__(
                module, "__class__", ModuleType
            )  # from here on it is a module like any other, and as fast
        finally:
            _running.discard(id(module))
        callback = _callbacks.pop(module.__name__, None)
        if callback is not None:
            callback()


def call_when_run(name: str, callback: Callable[[], None]) -> None:
    """Call this once that module has run: now, unless it is postponed."""
    if type(sys.modules.get(name)) is Postponed:
        _callbacks[name] = callback
    else:
        callback()


class Finder:
    """Finds the modules that are postponed as the others do, with a loader that does not run them."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name in self.names:
            for finder in sys.meta_path:
                spec = None if finder is self else finder.find_spec(name, path, target)
                if spec is not None:
                    spec.loader = Loader(spec.loader)  # type: ignore[assignment]
                    return spec
        return None


class Loader:
    """Makes a postponed module, and steps aside."""

    def __init__(self, original: Any) -> None:
        self.original = original

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return Postponed(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.original
        module.__spec__.loader = self.original  # type: ignore[union-attr]
        if module.__name__ == REDUCTION:
            import _socket

            vars(ModuleType)["__dict__"].__get__(module)["HAVE_SEND_HANDLE"] = (
                hasattr(_socket, "CMSG_LEN") and hasattr(_socket, "SCM_RIGHTS") and hasattr(_socket.socket, "sendmsg")
            )


def import_multiprocessing() -> None:
    """In a template: import multiprocessing with the two postponed."""
    if role.kind != role.TEMPLATE or not sys.modules.keys().isdisjoint(("multiprocessing", SIGNAL, REDUCTION)):
        return
    finder = Finder((SIGNAL, REDUCTION))
    sys.meta_path.insert(0, finder)
    try:
        import _signal

        # multiprocessing.process wants the names of the signals and nothing else; here they are, as plain numbers.
        sys.modules[SIGNAL] = _signal
        try:
            from multiprocessing import process
        finally:
            del sys.modules[SIGNAL]
        import signal

        process.signal = signal  # type: ignore[attr-defined]
    finally:
        sys.meta_path.remove(finder)


def finish() -> Iterator[None]:
    """Load what was postponed, a piece for each item that is asked for."""
    if type(sys.modules.get(REDUCTION)) is Postponed:
        for name in HEAVY:
            __import__(name)
            run(sys.modules[name])
            yield
