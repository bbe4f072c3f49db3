"""The install door: warmfork in the place of multiprocessing's "forkserver", for code that knows only that name."""

from __future__ import annotations

import os
import sys

from warmfork import startup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType
    from typing import Any

    from warmfork._words.spec import Spec
    from warmfork.mp.client.config import Prepared

CONTEXT = "multiprocessing.context"
POPEN = "multiprocessing.popen_forkserver"
FORKSERVER = "multiprocessing.forkserver"

installed: Prepared | None = None
_originals: dict[str, Any] = {}


def install(
    preload: Iterable[str] = (),
    *,
    name: str | None = None,
    on_preload_error: str | None = None,
    audit: str | None = None,
    spares: str | int | None = None,
    huge_pages: str | bool | None = None,
    without: Iterable[str] | None = None,
    start_timeout: float | None = None,
    orphans: str | None = None,
) -> None:
    """Put warmfork in the place of multiprocessing's "forkserver".

    From then on `get_context("forkserver")`, `set_start_method("forkserver")`, the default of Python 3.14 and newer,
    `set_forkserver_preload()` and `multiprocessing.forkserver.ensure_running()` mean warmfork, in this program and in
    the processes that it starts with them. Calling it again changes the options.

    Args: as for get_context(). What is not given is taken from WARMFORK_PRELOAD (comma-separated), WARMFORK_NAME,
        WARMFORK_ON_PRELOAD_ERROR, WARMFORK_AUDIT, WARMFORK_START_TIMEOUT, and from the variables of get_context(). What
        libraries ask for by set_forkserver_preload() is logged where it fails, and stops nothing.

    Raises UnsupportedPlatform where warmfork can't work; the stdlib's forkserver stays then.
    """
    from warmfork._machine import role

    global installed
    if role.kind == role.TEMPLATE:
        # A script that installs is run in its own template: nothing is started there, so nothing need be loaded.
        adopt_installed()
        return
    from warmfork.api.options import START_TIMEOUT, read_orphans, read_techniques
    from warmfork.mp.client.config import make_prepared

    items = tuple(preload) or read_preload()
    timeout = start_timeout
    if timeout is None:
        timeout = float(os.environ.get("WARMFORK_START_TIMEOUT") or START_TIMEOUT)
    made = make_prepared(
        items,
        name or os.environ.get("WARMFORK_NAME"),
        on_preload_error or os.environ.get("WARMFORK_ON_PRELOAD_ERROR") or "raise",
        audit or os.environ.get("WARMFORK_AUDIT") or "warn",
        read_techniques(spares, huge_pages, without),
        timeout,
        read_orphans(orphans),
    )
    if peek_installed() is not None and installed is not None:
        made.asked, made.asked_policy, made.epoch = installed.asked, installed.asked_policy, installed.epoch
        if made.describe() == installed.describe():
            return
        installed.renew()
    installed = made
    patch()
    if os.environ.get("WARMFORK_REPORT", "0") not in ("", "0"):
        from warmfork.report import begin

        begin(startup.watch)


def read_preload() -> tuple[str, ...]:
    """Read WARMFORK_PRELOAD."""
    return tuple(filter(None, (item.strip() for item in os.environ.get("WARMFORK_PRELOAD", "").split(","))))


def uninstall() -> None:
    """Give multiprocessing its own "forkserver" back. Processes that run run on; contexts of get_context() stay."""
    global installed
    if peek_installed() is None or installed is None:
        return
    installed.stop()
    installed = None
    for module in (POPEN, FORKSERVER):
        startup.WATCHED.pop(module, None)
    for key, value in _originals.items():
        module, _, attribute = key.partition(":")
        if module in sys.modules:
            setattr(sys.modules[module], attribute, value)
    _originals.clear()
    context = sys.modules.get(CONTEXT)
    if context is not None and _process_popen is not None:
        context.ForkServerProcess._Popen = staticmethod(_process_popen)
    forkserver = sys.modules.get(FORKSERVER)
    if forkserver is not None:
        forkserver._forkserver.__class__ = forkserver.ForkServer
        forkserver._forkserver._forkserver_pid = None


def install_from_environment() -> None:
    """Install, once multiprocessing.context has run. Nothing more of ours is loaded before something is started or
    named."""
    patch()
    startup.watch_names()


def adopt_installed(description: tuple[Any, ...] | None = None, spec: Spec | None = None) -> None:
    """In the template and in a child: have installed what the parent has installed, once it is needed."""
    global _adopted
    if description is not None:
        _adopted = description, spec
    patch()


def peek_installed() -> Prepared | None:
    """Give the installed template, or None."""
    global installed, _adopted
    if _adopted is not None:
        from warmfork.mp.client.config import Prepared

        (description, spec), _adopted = _adopted, None
        installed = Prepared.from_description(description, None)
        if spec is not None and spec.epoch == installed.epoch and spec.loader_arguments[2:] == ("installed",):
            installed.spec = spec
    return installed


_adopted: tuple[tuple[Any, ...], Spec | None] | None = None
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
    startup.watch(POPEN, patch_popen)
    startup.watch(FORKSERVER, patch_forkserver)


def start_process(process_obj: Any) -> Any:
    """Start a process of the installed "forkserver"."""
    from warmfork.mp.client.beginning import begin

    begin(get_installed)
    from warmfork.mp.client.popen import start

    return start(process_obj, get_installed())


def get_installed() -> Prepared:
    """Give the installed template, made from the environment where the start-up hook did the installing."""
    if peek_installed() is None:
        install()
    if installed is None:
        from warmfork._words.errors import StartError

        raise StartError("template", "a template starts no processes: its preload must not")
    return installed


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
