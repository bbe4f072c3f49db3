"""Pickling as multiprocessing does, by reference and by value; and its own pickler, where only values mean something."""

from __future__ import annotations

import copyreg
from multiprocessing import reduction
from pickle import Pickler

from warmfork._tasks import by_value
from warmfork._words.buffers import Pickled, run
from warmfork.api import payload
from warmfork.mp.shared.stdlib import is_stdlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Lean(Pickler):
    """multiprocessing's ForkingPickler with its table made once: making that costs 50 us a pickle, cold."""


_tables: tuple[dict[Any, Any], dict[Any, Any]] = {}, {}


def get_tables() -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Give copyreg's reducers and multiprocessing's own, as they are now."""
    return copyreg.dispatch_table, reduction.ForkingPickler._extra_reducers  # type: ignore[attr-defined]


def pickle(value: object, out_of_band: bool) -> Pickled:
    """Pickle as multiprocessing does, large buffers out of band where that is wanted."""
    global _tables
    if is_replaced():
        return dump_with(reduction, value)
    if get_tables() != _tables:
        general, own = map(dict, get_tables())
        Lean.dispatch_table = {**general, **own}
        _tables = general, own
    return run(Lean, value, out_of_band)


def is_replaced() -> bool:
    """Has somebody put a pickler of his own, or a function round it, in the place of multiprocessing's?"""
    pickler: Any = reduction.ForkingPickler
    return not (
        is_stdlib(reduction.dump, reduction)
        and is_stdlib(pickler.__init__, reduction)
        and pickler.__module__ == reduction.__name__
        and vars(pickler).keys().isdisjoint(("reducer_override", "persistent_id", "dump"))
    )


def dump_with(reducer: Any, value: object) -> Pickled:
    """Pickle with somebody else's dump()."""
    pickled = Pickled()
    reducer.dump(value, pickled)
    pickled.parts = [bytes(part) for part in pickled.parts]
    return pickled


def pickle_by_value(value: object, out_of_band: bool, main_is_known: bool, main_alone: bool = False) -> Pickled:
    """Pickle as multiprocessing does, with functions and classes by value where no other process could find them."""
    general, own = get_tables()
    return run(by_value.make_pickler(main_is_known, {**general, **own}, main_alone), value, out_of_band)


_stdlib_dumps: Any = None
_main_alone = True


def dumps(cls: type, value: object, protocol: int | None = None) -> Any:
    """Stands in for ForkingPickler.dumps(), with which queues and pipes send what they are given."""
    return payload.dump(
        value,
        lambda part: _stdlib_dumps(cls, part, protocol),
        lambda part: b"".join(pickle_by_value(part, False, False, _main_alone).parts),
        False,
    )


def take_over(main_alone: bool) -> None:
    """Have queues and pipes send functions of `__main__` by value, and lambdas of other modules too unless `main_alone`: a
    Pool at a prompt or of `python -m package` sends its workers what they can't import, they die of it, and it replaces
    them for ever. One that is not multiprocessing's stays."""
    global _stdlib_dumps, _main_alone
    _main_alone = _main_alone and main_alone
    current = getattr(vars(reduction.ForkingPickler)["dumps"], "__func__", None)
    if is_stdlib(current, reduction):
        _stdlib_dumps = current
        reduction.ForkingPickler.dumps = classmethod(dumps)  # type: ignore[assignment,method-assign]
