"""What children pickle and unpickle with: pickle's own C functions, without the Python around them (3 to 7 ms)."""

from __future__ import annotations

import sys

if "functools" in sys.modules:
    from _pickle import PickleBuffer, Pickler, PicklingError, dumps, loads
else:
    # _pickle wants one class of functools, which is in _functools. Whoever imports functools gets the real one.
    from _functools import partial  # type: ignore[import-not-found]

    stand_in = type(sys)("functools")
    vars(stand_in)["partial"] = partial
    sys.modules["functools"] = stand_in
    try:
        from _pickle import PickleBuffer, Pickler, PicklingError, dumps, loads
    finally:
        del sys.modules["functools"]

__all__ = ["PickleBuffer", "Pickler", "PicklingError", "dumps", "loads"]
