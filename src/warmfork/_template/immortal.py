"""Reference counts that a child need not write: what birth uses and nobody ever drops is made immortal (PEP 683).

Whoever calls a function writes to its reference count, to its code's and to those of the names and classes that it uses,
and in a child each of these writes copies a page. An immortal object's count is never written: of 490 page faults of a
birth 350 are left on 3.13, and of 510 are 415 on 3.15. Python makes its own singletons immortal since 3.12, and has no
call for other objects; what it does is write one number. Only modules of Python's own and ours are looked at, and in them
what lives as long as they do. If one of these objects were dropped all the same, it would not be freed: nothing else.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import ModuleType
    from typing import Any

PACKAGES = frozenset((
    "_abc", "_collections_abc", "_frozen_importlib", "_frozen_importlib_external", "_io", "_pickle", "_signal",
    "_socket", "_stat", "_struct", "_thread", "_weakref", "_weakrefset", "abc", "atexit", "builtins", "codecs",
    "copyreg", "encodings", "io", "itertools", "logging", "marshal", "multiprocessing", "os", "posix", "posixpath",
    "random", "resource", "select", "stat", "sys", "threading", "time", "types", "warmfork", "weakref",
))  # fmt: skip
"""What birth and the at-fork handlers of the standard library run through."""

AT_ONCE = 1000
"""Objects between two moments at which somebody may want something else: half a millisecond."""


FUNCTION: Any = type(lambda: None)
CODE: Any = type(compile("", "", "exec"))
MODULE = type(sys)
METHODS = (property, staticmethod, classmethod)
VALUES = (str, bytes, int, float, tuple, frozenset)
IN_C = (
    type(len), type(str.join), type(str.__add__), type("".__add__), type(vars(FUNCTION)["__code__"]),
    type(vars(CODE)["co_name"]),
)  # fmt: skip
"""Functions and methods written in C, and what gives access to a slot."""
LASTING = (type, FUNCTION, CODE, MODULE, *METHODS, *VALUES, *IN_C)
"""What lives as long as the module or the class that has it: objects with a state of their own are left alone."""


def keep_for_ever() -> Iterator[int]:
    """Make what birth uses immortal, a few objects for each item that is asked for: 20 to 40 ms in all. Nothing where
    this Python has no immortal objects."""
    try:
        keeper = Keeper()
    except (ImportError, AttributeError, RuntimeError):
        return
    steps = 0
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in PACKAGES:
            for _ in keep_module(keeper, module):
                steps += 1
                if steps % AT_ONCE == 0:
                    yield steps


def keep_module(keeper: Keeper, module: ModuleType) -> Iterator[None]:
    """Make immortal what this module has, and what that uses. Gives an item for each object that was looked at."""
    ahead: list[object] = [module, *vars(module)]
    for value in vars(module).values():
        ahead.append(value)
        if isinstance(value, type):
            ahead += list_parts(value)  # those in C are immortal already, and their methods are not
    while ahead:
        found = ahead.pop()
        if isinstance(found, LASTING) and keeper.keep(found):
            ahead += list_parts(found)
        yield


class Keeper:
    """Writes reference counts, once it has made sure that it knows how."""

    def __init__(self) -> None:
        if not HAVE_IMMORTALS or hasattr(sys, "getobjects"):
            raise RuntimeError("no immortal objects, or counts elsewhere (Py_TRACE_REFS)")
        self.find = make_finder()
        # None's, and where that is a range (3.14), in its middle: a reference on a frame's stack may have been taken when
        # the object was mortal, and is given back without asking.
        self.immortal: int = self.find(id(None)).value | 1 << 29
        probe = [None]
        count = self.find(id(probe))
        before = count.value
        another = [probe]
        if self.immortal < MORTAL or (before, count.value) != (1, 2) or another[0] is not probe:
            raise RuntimeError("reference counts are not where they should be")

    def keep(self, found: object) -> bool:
        """Make this object immortal. Tells whether it was not."""
        count = self.find(id(found))
        if count.value >= MORTAL:
            return False
        count.value = self.immortal
        return True


HAVE_IMMORTALS: bool = sys.implementation.name == "cpython" and sys.version_info[:2] >= (3, 12)
MORTAL = 1 << 31
"""Counts from here on are immortal (the sign bit of 32)."""


def make_finder() -> Any:
    """Give what gives the reference count at an address: 32 bits, which is half of it before 3.14."""
    import _ctypes

    return type("Count", (_ctypes._SimpleCData,), {"_type_": "I"}).from_address  # type: ignore[attr-defined]


def list_parts(found: Any) -> Iterable[object]:
    """List what is used with an object."""
    if isinstance(found, FUNCTION):
        return found.__code__, found.__name__, found.__qualname__, found.__defaults__, found.__closure__
    if isinstance(found, CODE):
        return *found.co_consts, *found.co_names, *found.co_varnames, found.co_consts, found.co_names, found.co_filename
    if isinstance(found, type):
        return *vars(found), *vars(found).values(), found.__mro__, found.__bases__
    if isinstance(found, property):
        return found.fget, found.fset
    if isinstance(found, (staticmethod, classmethod)):
        return (found.__func__,)
    return found if isinstance(found, (tuple, frozenset)) else ()
