"""multiprocessing.forkserver's one object, answering for our template: libraries and tests take hold of it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_made: dict[type, type] = {}


def make_class(stdlib: type) -> type:
    """Give the subclass of the stdlib's ForkServer that its object gets."""
    if stdlib not in _made:
        _made[stdlib] = type("ForkServer", (stdlib,), dict(METHODS))
    return _made[stdlib]


def ensure_running(self: Any) -> None:
    """Start our template, and wait until it serves."""
    from warmfork.mp.shared import installed
    from warmfork.mp.shared import names as resources

    resources.take_over()
    if not is_template():
        installed.get().get_channel()


def stop(self: Any) -> None:
    """End the template; the next start has a fresh one."""
    from warmfork.mp.shared import installed

    chosen = installed.peek()
    if chosen is not None:
        chosen.stop()


def get_pid(self: Any) -> int | None:
    """Give the template's pid, or None where none runs."""
    from warmfork.mp.shared import installed

    chosen = installed.peek()
    return chosen.get_pid() if chosen is not None else None


def set_pid(self: Any, value: object) -> None:
    """The stdlib's own code sets it to None, to forget a server: nothing to do."""


def get_inherited_fds(self: Any) -> list[int] | None:
    """Give the fds that came with this process, or None where it is no child of a template."""
    from warmfork._machine import role

    if role.kind != role.CHILD:
        return None
    from warmfork.mp.shared import carried

    return carried.inherited


def set_forkserver_preload(self: Any, modules_names: list[str], *, on_error: str = "ignore") -> None:
    """Set what to preload. A template that runs already is replaced at the next start (row 19)."""
    from warmfork.mp.shared import installed

    names = list(modules_names)
    if not all(type(name) is str for name in names):
        raise TypeError("module_names must be a list of strings")
    if on_error not in ("ignore", "warn", "fail"):
        raise ValueError(f"on_error must be 'ignore', 'warn', or 'fail', not {on_error!r}")
    self._preload_modules = modules_names
    if not is_template():
        installed.get().set_preload(names, on_error)


def is_template() -> bool:
    """Is this the template? A script that asks for a preload outside its main guard is run there too, and asks in vain:
    what it wants is being done."""
    from warmfork._machine import role

    return role.kind == role.TEMPLATE


METHODS = {
    "ensure_running": ensure_running,
    "_stop": stop,
    "_forkserver_pid": property(get_pid, set_pid),
    "get_inherited_fds": get_inherited_fds,
    "set_forkserver_preload": set_forkserver_preload,
}
