"""Calls that travel by value, with the globals that they use: says so where a global is so large that each start pays."""

from __future__ import annotations

from warmfork._words.buffers import Pickled, run
from warmfork.api.payload import list_parts_of_function

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FunctionType
    from typing import Any

MOST = 10_000_000
"""Bytes of one call from which its globals are looked at."""

_looked_at: set[Any] = set()  # the code of functions that were: each is told once


def warn_of_globals(value: object, pickled: Pickled) -> None:
    """Log, once for a function, which of its globals are sent along with each start, where these are over 10 MB."""
    if not (isinstance(value, tuple) and value) or measure(pickled) < MOST:
        return
    from warmfork._tasks.by_value import goes_by_value, make_pickler

    pickler = make_pickler(False)
    for function in list_functions(getattr(value[0], "func", value[0]), set()):
        if function.__code__ in _looked_at or not goes_by_value(function, False):
            continue
        _looked_at.add(function.__code__)
        for name in function.__code__.co_names:
            held = function.__globals__.get(name)
            size = measure(run(pickler, held, True)) if held is not None and not callable(held) else 0
            if size >= MOST:
                from logging import getLogger

                getLogger("warmfork").warning(
                    '%s uses the global "%s", so each start sends its %.1f MB to the child: pass it as an argument, '
                    "or load it in a module and preload that",
                    function.__qualname__, name, size / 1e6,
                )  # fmt: skip


def measure(pickled: Pickled) -> int:
    """Count the bytes of a pickle, with those of its buffers."""
    return sum(len(part) for part in pickled.parts) + sum(buffer.nbytes for buffer in pickled.buffers)


def list_functions(value: object, seen: set[int]) -> Iterator[FunctionType]:
    """Go through a function and those that it uses."""
    code = getattr(value, "__code__", None)
    if code is None or id(value) in seen:
        return
    seen.add(id(value))
    yield value  # type: ignore[misc]
    for _, part in list_parts_of_function(value, code):
        yield from list_functions(part, seen)
