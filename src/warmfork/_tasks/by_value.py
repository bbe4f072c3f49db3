"""Functions and classes by value: those that another process can't find by name. Everything else is up to pickle.

cloudpickle knows how to take a function apart. Here is decided which ones are: those of a main module that the other
process has not got (a script, a prompt, a notebook), lambdas, and what is nested in functions. What pickle refuses
(open files, locks, sockets, generators) stays refused: cloudpickle would send copies of some.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import CodeType
    from typing import Any

MAINS = ("__main__", "__mp_main__")


def make_pickler(main_is_known: bool, reducers: Mapping[type, Any] | None = None, main_alone: bool = False) -> type:
    """Give a pickler class. `main_is_known`: the other process has the main module, so what can be found there goes by
    name. `reducers` are those of whom it pickles for, copyreg's where it is None. `main_alone`: what other modules define
    is up to pickle, lambdas too."""
    import copyreg
    import types
    import typing

    from cloudpickle import cloudpickle

    parts = (
        classmethod, staticmethod, property, types.CellType, types.GetSetDescriptorType, types.MappingProxyType,
        types.ModuleType, typing.TypeVar,
    )  # fmt: skip
    known = cloudpickle.Pickler.dispatch_table
    table: dict[Any, Any] = {kind: known[kind] for kind in parts if kind in known}
    dataclasses = sys.modules.get("dataclasses")
    if dataclasses is not None:  # a dataclass tells its fields by markers of this class, and compares them by identity
        table[dataclasses._FIELD_BASE] = known[dataclasses._FIELD_BASE]
    functools = sys.modules.get("functools")
    if functools is not None:
        table[functools.cached_property] = reduce_cached_property  # on 3.11 it has a lock
    table[types.CodeType] = reduce_code
    table.update(copyreg.dispatch_table if reducers is None else reducers)

    class ByValue(cloudpickle.Pickler):  # type: ignore[misc]
        """pickle's own pickler, with a few functions and classes by value."""

        # Of the class: the C pickler reads the table when it is made, and an instance's attribute comes too late.
        dispatch_table = table

        def reducer_override(self, value: Any) -> Any:
            if type(value) is types.FunctionType:
                if goes_by_value(value, main_is_known, main_alone):
                    return self._dynamic_function_reduce(value)
            elif type(value).__name__ == "_lru_cache_wrapper":
                if goes_by_value(value, main_is_known, main_alone):
                    return rebuild_cached, (value.__wrapped__, value.cache_parameters())
            elif isinstance(value, type):
                if "__reduce_class__" in vars(value):
                    return value.__reduce_class__()  # type: ignore[attr-defined]
                if value in cloudpickle._BUILTIN_TYPE_NAMES:  # mappingproxy and others that builtins has no name for
                    return cloudpickle._builtin_type, (cloudpickle._BUILTIN_TYPE_NAMES[value],)
                if goes_by_value(value, main_is_known, main_alone):
                    reduced = cloudpickle._dynamic_class_reduce(value)
                    if vars(value).get("__slots__"):  # else its instances have a __dict__ there, and come back with one
                        reduced[1][3]["__slots__"] = vars(value)["__slots__"]
                    return reduced
            return NotImplemented

    return ByValue


def reduce_code(code: CodeType) -> tuple[Any, ...]:
    """Pickle a code object whole: cloudpickle leaves out the name of its file, which tracebacks, debuggers and coverage
    show. Both processes are of one Python."""
    import marshal

    return marshal.loads, (marshal.dumps(code),)


def reduce_cached_property(value: Any) -> tuple[Any, ...]:
    """Pickle a functools.cached_property by its function and its name."""
    return rebuild_cached_property, (value.func, value.attrname)


def rebuild_cached_property(function: Any, name: str) -> Any:
    """Give a functools.cached_property, as a class that has it under this name."""
    from functools import cached_property

    made: Any = cached_property(function)
    made.attrname = name
    return made


def rebuild_cached(function: Any, parameters: dict[str, Any]) -> Any:
    """Give a function that was under functools.lru_cache() its cache again, an empty one."""
    from functools import lru_cache

    return lru_cache(**parameters)(function)


def goes_by_value(value: Any, main_is_known: bool, main_alone: bool = False) -> bool:
    """Is this function or class one that the other process can't find, and may be sent?"""
    module, name = getattr(value, "__module__", None), value.__qualname__
    if (module in MAINS and not main_is_known) or is_registered(module):
        return True
    if main_alone or (isinstance(value, type) and module not in MAINS and "<locals>" not in name):
        return False
    found: Any = sys.modules.get(str(module))
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is not value


def is_registered(module: str | None) -> bool:
    """Has the user told cloudpickle to send this module by value?"""
    from cloudpickle import list_registry_pickle_by_value

    registered = list_registry_pickle_by_value()
    return bool(registered) and any(module == name or str(module).startswith(f"{name}.") for name in registered)
