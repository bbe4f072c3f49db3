"""Pickling what a child is given: by reference where the child can find it by name, by value where it can't.

Plain pickle comes first. Taking functions apart, 20 times dearer, is tried only where plain pickle refuses (lambdas,
nested functions) or where a name of `__main__` would mean nothing in the child (REPL, notebook, -c, stdin).

What is large is not copied here. Buffers (numpy's, Arrow's) stay where they are, out of band as pickle's protocol 5
calls it, and large bytes are parts of the pickle by themselves: pickle hands them to write() as they are.
"""

from __future__ import annotations

from pickle import PicklingError

from warmfork._words.buffers import SMALLEST, Pickled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

REFUSALS = (PicklingError, AttributeError, TypeError)
"""What pickle raises for what it can't pickle. Other errors are raised by the objects themselves, and mean it."""

DEEPEST = 12

LARGEST_CHUNK = 4 * SMALLEST
"""Bytes that a part can have in which pickle has put names; a larger one is somebody's own bytes or text."""


def dump(value: object, plain: Callable[[object], Any], by_value: Callable[[object], Any], main_is_known: bool) -> Any:
    """Pickle `value`. Raises what pickle raises, with the path to the attribute that can't be pickled."""
    try:
        data = plain(value)
    except REFUSALS:
        data = None  # by value it may go; if not, the error of that try is the one that names the culprit
    if data is not None and (main_is_known or not names_main(data)):
        return data
    try:
        return by_value(value)
    except REFUSALS as error:
        add_path(error, value, by_value)
        raise


def names_main(data: Any) -> bool:
    """Does this pickle refer to `__main__`?"""
    parts = data.parts if isinstance(data, Pickled) else (data,)
    return any(b"__main__" in bytes(part) for part in parts if len(part) <= LARGEST_CHUNK or len(parts) == 1)


def add_path(error: Exception, value: object, pickle: Callable[[object], Any]) -> None:
    """Add to the error which part of `value` is to blame."""
    path = find_culprit(value, pickle, 0)
    if path and error.args and isinstance(error.args[0], str):
        error.args = (f"{error.args[0]} (at {type(value).__name__}{path})", *error.args[1:])


def find_culprit(value: object, pickle: Callable[[object], Any], depth: int) -> str:
    """Give the path from `value` to the smallest part that can't be pickled, such as `._args[1].lock`; "" for itself."""
    if depth == DEEPEST:
        return ""
    for path, part in list_parts(value):
        try:
            pickle(part)
        except Exception:
            return path + find_culprit(part, pickle, depth + 1)
    return ""


def list_parts(value: object) -> list[tuple[str, object]]:
    """List what pickle would look at next, each with its step of the path."""
    if isinstance(value, dict):
        return [(f"[{key!r}]", part) for key, part in value.items()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return [(f"[{index}]", part) for index, part in enumerate(value)]
    function = getattr(value, "func", None)
    if function is not None and hasattr(value, "keywords"):  # functools.partial
        return [(".func", function), (".args", value.args), (".keywords", value.keywords)]  # type: ignore[attr-defined]
    code = getattr(value, "__code__", None)
    if code is not None:
        return list_parts_of_function(value, code)
    return [(f".{name}", part) for name, part in getattr(value, "__dict__", {}).items()]


def list_parts_of_function(function: Any, code: Any) -> list[tuple[str, object]]:
    """List the variables that a function holds: of the function around it, of its module, and its defaults."""
    found = []
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
        try:
            found.append((f' (a variable of the function: "{name}")', cell.cell_contents))
        except ValueError:
            continue  # it has no value yet
    used = function.__globals__
    found += [(f' (a global that it uses: "{name}")', used[name]) for name in code.co_names if name in used]
    found += [
        (f" (default {number} of its arguments)", part) for number, part in enumerate(function.__defaults__ or ())
    ]
    return found
