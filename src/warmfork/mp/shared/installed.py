"""What is installed in the place of multiprocessing's "forkserver": in a program, and in the children that inherit it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from warmfork._words.spec import Spec
    from warmfork.mp.client.config import Prepared

_current: Prepared | None = None
_adopted: tuple[tuple[Any, ...], Spec | None] | None = None


def adopt(description: tuple[Any, ...], spec: Spec | None) -> None:
    """In a child: have installed what the parent has installed, once it is needed."""
    global _adopted
    _adopted = description, spec


def peek() -> Prepared | None:
    """Give the installed template, or None."""
    global _current, _adopted
    if _adopted is not None:
        from warmfork.mp.client.config import Prepared

        (description, spec), _adopted = _adopted, None
        _current = Prepared.from_description(description, None)
        if spec is not None and spec.epoch == _current.epoch and spec.loader_arguments[2:] == ("installed",):
            _current.spec = spec
    return _current


def get() -> Prepared:
    """Give the installed template, made from the environment where the start-up hook did the installing. Raises
    StartError in a template."""
    from warmfork._machine import role

    current = peek()
    if current is None and role.kind == role.TEMPLATE:
        from warmfork._client.client import STARTS_PROCESSES
        from warmfork._words.errors import StartError

        raise StartError("template", STARTS_PROCESSES)
    if current is None:
        from warmfork.mp.client.config import Prepared
        from warmfork.mp.shared import names

        names.take_over()
        current = Prepared.from_environment()
        put(current)
    return current


def put(made: Prepared | None) -> None:
    """Have this installed."""
    global _current
    _current = made
