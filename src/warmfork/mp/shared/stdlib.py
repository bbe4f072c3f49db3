"""Whether a function of Python's own library is still its own."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def is_stdlib(function: Any, module: Any) -> bool:
    """Is this function of a module of Python's own still the one that the module has defined? Tools (coverage, tracers)
    put something round a few of multiprocessing's."""
    return getattr(function, "__globals__", None) is vars(module)
