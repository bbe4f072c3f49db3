"""multiprocessing's "forkserver" replaced by ours, and put back: in programs, templates and children."""

from __future__ import annotations

import sys

from warmfork.mp.shared import watching

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

CONTEXT = "multiprocessing.context"
POPEN = "multiprocessing.popen_forkserver"
FORKSERVER = "multiprocessing.forkserver"

_originals: dict[str, Any] = {}
_process_popen: Any = None


def patch() -> None:
    """Replace what has to be replaced, now, or when it is imported."""
    global _process_popen
    context: Any = sys.modules.get(CONTEXT)
    if context is not None:
        # ForkServerProcess looks Popen up when it starts, so this one attribute reaches contexts that were taken
        # early, subclasses and the default. The class itself, its name and its pickles stay.
        current = context.ForkServerProcess.__dict__["_Popen"].__func__
        if current is not start_process:
            _process_popen = current
            context.ForkServerProcess._Popen = staticmethod(start_process)
    watching.watch(POPEN, patch_popen)
    watching.watch(FORKSERVER, patch_forkserver)


def undo() -> None:
    """Give multiprocessing its own "forkserver" back."""
    for module in (POPEN, FORKSERVER):
        watching.WATCHED.pop(module, None)
    for key, value in _originals.items():
        module, _, attribute = key.partition(":")
        if module in sys.modules:
            setattr(sys.modules[module], attribute, value)
    _originals.clear()
    context: Any = sys.modules.get(CONTEXT)
    if context is not None and _process_popen is not None:
        context.ForkServerProcess._Popen = staticmethod(_process_popen)
    forkserver: Any = sys.modules.get(FORKSERVER)
    if forkserver is not None:
        forkserver._forkserver.__class__ = forkserver.ForkServer
        forkserver._forkserver._forkserver_pid = None


def start_process(process_obj: Any) -> Any:
    """Start a process of the installed "forkserver"."""
    from warmfork.mp.shared import installed
    from warmfork.mp.shared.process import load_beginning

    return load_beginning().start(process_obj, installed.get)


def replace(module: ModuleType, attribute: str, value: Any) -> None:
    """Replace an attribute of a module, and remember what was there."""
    _originals.setdefault(f"{module.__name__}:{attribute}", getattr(module, attribute))
    setattr(module, attribute, value)


def patch_popen(module: ModuleType) -> None:
    """Whoever takes Popen straight from multiprocessing.popen_forkserver gets ours."""
    from warmfork.mp.client.popen import Popen

    replace(module, "Popen", Popen)


def patch_forkserver(module: ModuleType) -> None:
    """Rebind the functions of multiprocessing.forkserver, and give its one object a class that is ours."""
    from warmfork.mp.client import forkserver as facade

    server = module._forkserver
    server.__class__ = facade.make_class(module.ForkServer)
    for attribute in ("ensure_running", "get_inherited_fds", "set_forkserver_preload"):
        replace(module, attribute, getattr(server, attribute))
