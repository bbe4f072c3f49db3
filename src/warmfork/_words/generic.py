"""`class Child(Generic["T"])` for type checkers, without the 4 ms that `import typing` takes."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Generic as Generic
else:

    class Generic:
        """Takes `Child[int]` in what users write, as list takes `list[int]`."""

        __slots__ = ()
        __class_getitem__ = classmethod(type(list[int]))
