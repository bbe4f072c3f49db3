"""The watch on imports that children inherit: each says once what it imported after its birth, and what that cost."""

from __future__ import annotations

import _frozen_importlib
import _thread
import os
import sys
from time import perf_counter

from warmfork._machine import fds, memory
from warmfork.learning.record import BLAS, BORN, GPU, LARGEST_REPORTS, SOCKET, THREADS, WORTH_MS, write_report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

APPEND = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
MOST = 200
"""Imports of one child that are looked at."""

_template = 0


def count_threads() -> int:
    """Count the threads of this process: the links of its task folder, less two (2 us)."""
    return os.stat("/proc/self/task").st_nlink - 2


def begin(path: str, known: set[str]) -> None:
    """In the template, at the end of the preload: have children report to this file what is not known already."""
    global _template
    if _template:
        return
    _template = os.getpid()
    original = _frozen_importlib._find_and_load  # type: ignore[attr-defined]
    template, main, inside, left = _template, _thread.get_ident(), [False], [MOST]

    def find_and_load(name: str, import_: Any) -> Any:
        """What the import statement calls for a module that is not loaded."""
        if (
            inside[0]
            or name in sys.modules
            or name in known
            or left[0] <= 0
            or os.getpid() == template
            or _thread.get_ident() != main
        ):
            return original(name, import_)
        left[0] -= 1
        inside[0] = True
        try:
            look = Look()
            found = original(name, import_)
            look.report(path, name)
            return found
        finally:
            inside[0] = False

    # So that tracebacks leave its frame out, as they do Python's own.
    find_and_load.__code__ = find_and_load.__code__.replace(co_filename="<frozen importlib._bootstrap>")
    _frozen_importlib._find_and_load = find_and_load  # type: ignore[attr-defined]

    def tell_birth() -> None:
        """In a forked process: a child of the template says that it is there."""
        if os.getppid() == template:
            append(path, BORN)

    os.register_at_fork(after_in_child=tell_birth)


class Look:
    """How this process is before an import (15 us)."""

    __slots__ = ("began", "descriptors", "has_blas", "kib", "threads")

    def __init__(self) -> None:
        self.threads = count_threads()
        self.descriptors = list_numbers()
        self.kib = memory.get_resident_kib()
        self.has_blas = "numpy" in sys.modules or "scipy" in sys.modules
        self.began = perf_counter()

    def report(self, path: str, name: str) -> None:
        """Report what the import has cost and left."""
        ms = (perf_counter() - self.began) * 1000
        if ms < WORTH_MS or name.partition(".")[0] == "warmfork":
            return
        flags = ""
        if count_threads() > self.threads:
            flags += THREADS
            if not self.has_blas and ("numpy" in sys.modules or "scipy" in sys.modules):
                flags += BLAS
        for fd in list_numbers() - self.descriptors:
            try:
                target = os.readlink(f"/proc/self/fd/{fd}")
            except OSError:
                continue  # another thread has closed it
            flags += SOCKET if target.startswith("socket:") else GPU if target.startswith(fds.GPU_DEVICES) else ""
        append(path, write_report(os.getpid(), name, ms, memory.get_resident_kib() - self.kib, flags))


def list_numbers() -> set[str]:
    """List the numbers of the open fds, but for the one by which they are listed: that has the lowest free number, as the
    one before it had (5 us, where asking of each whether it is open takes 1 us more for each)."""
    lowest = os.open("/", os.O_PATH | os.O_CLOEXEC)
    os.close(lowest)
    found = set(os.listdir("/proc/self/fd"))
    found.discard(str(lowest))
    return found


def append(path: str, line: bytes) -> None:
    """Add a line to the reports (15 us); a child that may not, or finds the file full, does without."""
    try:
        fd = os.open(path, APPEND)
    except OSError:
        return
    try:
        if os.fstat(fd).st_size < LARGEST_REPORTS:
            os.write(fd, line)
    except OSError:
        return
    finally:
        os.close(fd)
