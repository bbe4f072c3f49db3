"""Calls of libc functions that Python does not wrap, without the ctypes package: _ctypes alone costs 0.5 ms cold, not 4."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_addresses: dict[str, int] = {}


def find(name: str) -> int:
    """Give the address of a libc function. Raises OSError where there is none."""
    import _ctypes

    address = _addresses.get(name)
    if address is None:
        itself: Any = None  # this process, with all that it has loaded
        address = _addresses[name] = _ctypes.dlsym(_ctypes.dlopen(itself, 0), name)
    return address


def call(name: str, *arguments: Any) -> int:
    """Call a libc function that takes C ints, pointers (make_pointer) or bytes, and returns a C int.

    Raises OSError where it returns -1.
    """
    import _ctypes

    result: int = _ctypes.call_cdeclfunction(find(name), arguments)
    if result == -1:
        # errno is not to be had without a function type of the ctypes package.
        raise OSError(f"{name}{arguments} failed")
    return result


def prepare(name: str, *arguments: Any) -> Callable[[], int]:
    """Give a call that is ready to be made: it returns what the libc function returns, -1 included."""
    import _ctypes

    function, address = _ctypes.call_cdeclfunction, find(name)
    return lambda: function(address, arguments)


def make_pointer(address: int) -> Any:
    """Give what `call` passes as a pointer: a plain int would be cut to 32 bits."""
    global _Pointer
    if _Pointer is None:
        import _ctypes

        _Pointer = type("Pointer", (_ctypes._SimpleCData,), {"_type_": "P"})
    return _Pointer(address)


_Pointer: Any = None
