"""Fds that close when nobody holds them any longer: however a start ends, no child is kept waiting at its feed."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Owned(list[int]):
    """A list of fds that belong to it. Whoever takes one over takes it off the list in the same statement."""

    __slots__ = ()

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        # As a default, for at the interpreter's end the names of this module may be gone before this object is.
        list(map(close, self))  # one call: no signal handler comes in between
