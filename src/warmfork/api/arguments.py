"""What users pass to start() and start_many(), checked before anything is started."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def check_call(
    fn: object, args: object, kwargs: object, surplus: tuple[object, ...]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Check what start() was given, and give the arguments of the call. Raises TypeError, which says what to write."""
    name = getattr(fn, "__name__", "fn")
    if surplus or not (kwargs is None or hasattr(kwargs, "keys")):
        given = ", ".join(map(shorten, (args, kwargs, *surplus)))
        raise TypeError(
            f"args is one tuple with all arguments of {name}: start({name}, ({given})), not start({name}, {given})"
        )
    return check_arguments(fn, args), dict(kwargs) if kwargs else {}  # type: ignore[call-overload]


def check_arguments(fn: object, args: object) -> tuple[Any, ...]:
    """Give the arguments of one call as a tuple. Raises TypeError, which says what to write."""
    if not callable(fn):
        raise TypeError(f"fn is a function or another thing that can be called, not {shorten(fn)}")
    if isinstance(args, (str, bytes, bytearray)) or not hasattr(type(args), "__iter__"):
        name = getattr(fn, "__name__", "fn")
        raise TypeError(f"args is a tuple with the arguments of {name}: ({shorten(args)},), not {shorten(args)}")
    return tuple(args)  # type: ignore[arg-type]


def check_list(arguments: object) -> list[Any]:
    """Give the items of start_many(). Raises TypeError, which says what to write."""
    if isinstance(arguments, (str, bytes, bytearray)) or not hasattr(type(arguments), "__iter__"):
        raise TypeError(f"arguments is a list with a tuple for each call, [(1,), (2,)], not {shorten(arguments)}")
    items: list[Any] = list(arguments)  # type: ignore[call-overload]
    for item in items:
        if isinstance(item, (str, bytes, bytearray)) or not hasattr(type(item), "__iter__"):
            raise TypeError(
                f"each item of arguments is the tuple of one call's arguments: ({shorten(item)},), not {shorten(item)}"
            )
    return items


def shorten(value: object) -> str:
    """Give a value's repr, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
