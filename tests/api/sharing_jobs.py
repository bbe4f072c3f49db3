"""What tasks do in the tests of share_readonly(). It stands alone, for the template imports it."""

from __future__ import annotations

import os
import signal
from typing import Any

kept: list[Any] = []


def describe(view: Any) -> tuple[object, ...]:
    return type(view).__name__, view.readonly, view.nbytes, bytes(view[:9])


def try_to_write(view: Any) -> str:
    try:
        view[0] = 1
    except TypeError as error:
        return type(error).__name__
    return "written"


def join(values: list[Any], again: Any, large: bytes) -> tuple[object, ...]:
    return bytes(values[0][:4]), bytes(values[1]["two"][:4]), bytes(again[:4]), len(large)


def list_maps() -> int:
    """How often shared memory is mapped here."""
    with open("/proc/self/maps") as file:
        return sum("warmfork-buffer" in line for line in file)


def list_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def list_files_beside(view: Any) -> int:
    """How many files are open, less the one that an mmap object keeps for itself before Python 3.13."""
    own = [fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]
    own = [fd for fd in own if "warmfork-buffer" not in os.readlink(f"/proc/self/fd/{fd}")]
    return len(own) + 1 if view is not None else 0


def keep(value: Any) -> int:
    kept.append(value)
    return list_maps()


def let_go() -> None:
    kept.clear()


def read_kept() -> bytes:
    return bytes(kept[0][:9])


def get_byte(view: Any, index: int) -> int:
    return int(view[index])


def describe_array(matrix: Any) -> tuple[object, ...]:
    return type(matrix).__name__, matrix.shape, matrix.flags.writeable, float(matrix[-1, -1])


def sum_of(frame: Any) -> int:
    return int(frame["a"].sum())


def wait_for(path: str) -> None:
    with open(path) as fifo:
        fifo.read()


def crash_with(view: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL if view.readonly else 0)


def count_different(shared: list[Any], large: bytes = b"") -> int:
    """How many different ones have arrived."""
    return len({id(one.obj) for one in shared})
