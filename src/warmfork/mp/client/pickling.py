"""Pickling as multiprocessing does, by reference and by value; and its own pickler, where only values mean something."""

from __future__ import annotations

import copyreg
from multiprocessing import reduction
from pickle import Pickler

from warmfork._client import payload
from warmfork._words.buffers import Pickled, run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Lean(Pickler):
    """multiprocessing's ForkingPickler with its table made once: making that costs 50 us a pickle, cold."""


_tables = (-1, -1)


def get_reducers() -> dict[type, Any]:
    """Give copyreg's reducers and multiprocessing's own, in one table."""
    return {**copyreg.dispatch_table, **reduction.ForkingPickler._extra_reducers}  # type: ignore[attr-defined]


def pickle(value: object, out_of_band: bool) -> Pickled:
    """Pickle as multiprocessing does, large buffers out of band where that is wanted."""
    global _tables
    sizes = len(copyreg.dispatch_table), len(reduction.ForkingPickler._extra_reducers)  # type: ignore[attr-defined]
    if sizes != _tables:  # both tables only ever grow
        Lean.dispatch_table = get_reducers()
        _tables = sizes
    return run(Lean, value, out_of_band)


def pickle_by_value(value: object, out_of_band: bool) -> Pickled:
    """Pickle as multiprocessing does, with functions and classes by value where no other process could find them."""
    import cloudpickle

    # A class: the C pickler reads the table when it is made, and an instance's attribute comes too late.
    table = cloudpickle.Pickler.dispatch_table.new_child(get_reducers())
    return run(type("ByValue", (cloudpickle.Pickler,), {"dispatch_table": table}), value, out_of_band)


STDLIB_DUMPS = vars(reduction.ForkingPickler)["dumps"].__func__


def dumps(cls: type, value: object, protocol: int | None = None) -> Any:
    """Stands in for ForkingPickler.dumps(), with which queues and pipes send what they are given."""
    return payload.dump(
        value,
        lambda part: STDLIB_DUMPS(cls, part, protocol),
        lambda part: pickle_by_value(part, False).parts[0],
        False,
    )


def take_over() -> None:
    """Have queues and pipes send functions of `__main__` by value: a Pool at a prompt or in a notebook sends its workers
    what they can't import, they die of it, and it replaces them for ever (row 10)."""
    reduction.ForkingPickler.dumps = classmethod(dumps)  # type: ignore[assignment,method-assign]
