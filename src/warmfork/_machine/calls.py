"""Calls of libc functions that Python does not wrap, on plain integers, without the ctypes package (4 ms cold)."""

from __future__ import annotations

import os

_addresses: dict[str, int] = {}


def call(name: str, *arguments: int) -> int:
    """Call a libc function that takes and returns C ints. Raises OSError where it returns -1."""
    import _ctypes

    if name not in _addresses:
        _addresses[name] = _ctypes.dlsym(_ctypes.dlopen(None, 0), name)
    _ctypes.set_errno(0)
    # FUNCFLAG_USE_ERRNO is not to be had without a function type, so errno is only known as "failed".
    result: int = _ctypes.call_cdeclfunction(_addresses[name], arguments)
    if result == -1:
        raise OSError(f"{name}{arguments} failed")
    return result


def is_linux() -> bool:
    """Is this Linux?"""
    return os.uname().sysname == "Linux"
