"""Python's locks of this process that are held. Those of C libraries can't be seen."""

from __future__ import annotations

import _thread
import gc
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OTHERS = ("threading", "_frozen_importlib", "importlib._bootstrap", "gc", "warmfork")
"""Whose locks are their own business: held while a thread runs, or a module is imported."""


def find_held() -> list[tuple[str, str]]:
    """Find the locks that are held and that an object or a module has: (module, name). Takes 60 ms for a million objects."""
    kinds = (_thread.LockType, _thread.RLock)
    held = [each for each in gc.get_objects() if type(each) in kinds and is_locked(each)]
    found = set()
    for lock in held:
        for owner in gc.get_referrers(lock):
            if owner is not held:
                found.update(name_lock(owner, lock))
    return sorted(found)


def is_locked(lock: Any) -> bool:
    """Is this lock held? An RLock says so in its text alone before Python 3.14."""
    return bool(lock.locked()) if hasattr(lock, "locked") else repr(lock).startswith("<locked")


def name_lock(owner: Any, lock: object) -> list[tuple[str, str]]:
    """Give the module and the name by which this owner has a lock; nothing where that is not to be told."""
    values = owner if type(owner) is dict else getattr(owner, "__dict__", None)
    if type(values) is not dict:
        return []
    if type(owner) is not dict:
        module = type(owner).__module__
    elif sys.modules.get(str(owner.get("__name__")), None) is not None and "__spec__" in owner:
        module = str(owner["__name__"])
    else:
        holders = [each for each in gc.get_referrers(owner) if getattr(each, "__dict__", None) is owner]
        module = type(holders[0]).__module__ if holders else ""
    if not module or module.partition(".")[0] in OTHERS or module in OTHERS:
        return []
    return [(module, str(name)) for name, value in list(values.items()) if value is lock]
