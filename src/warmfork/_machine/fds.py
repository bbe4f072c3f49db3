"""Fds of this process: who owns them, waiting for them, closing them, and what they mean."""

from __future__ import annotations

import os
from select import POLLIN, POLLNVAL, poll

from warmfork._machine import memfds, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

GPU_DEVICES = ("/dev/nvidia", "/dev/kfd", "/dev/dri/")
"""Where an open GPU shows in /proc/PID/fd."""


class Fd:
    """An fd that belongs to this object: closed once, by close(), by the end of a `with` block, or with the object."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __enter__(self) -> Fd:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __bool__(self) -> bool:
        return self.number >= 0

    def fileno(self) -> int:
        """Give the number; -1 where it is closed or somebody else's by now."""
        return self.number

    def release(self) -> int:
        """Give the number to somebody who closes it from now on."""
        number, self.number = self.number, -1
        return number

    def close(self) -> None:
        """Close it, if it is still ours."""
        number, self.number = self.number, -1
        if number >= 0:
            os.close(number)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        # As a default, for at the interpreter's end the names of this module may be gone before this object is. And a
        # signal handler may have raised before there was a number.
        number, self.number = getattr(self, "number", -1), -1
        if number >= 0:
            close(number)


def is_open(fd: int) -> bool:
    """Is this fd open?"""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def wait_readable(fd: int, timeout: float | None) -> bool:
    """Wait until there is something to read on this fd, or its end, up to `timeout` seconds (None: for ever)."""
    return bool(list_readable((fd,), timeout))


def list_readable(these: tuple[int, ...], timeout: float | None) -> list[int]:
    """Wait until one of these fds is readable, or at its end, up to `timeout` seconds (None: for ever), and give those that
    are."""
    ready = poll()
    for fd in these:
        ready.register(fd, POLLIN)
    return [fd for fd, _ in ready.poll(None if timeout is None else max(0.0, timeout) * 1000)]


def close_all(fds: list[int] | tuple[int, ...]) -> None:
    """Close these fds."""
    for fd in fds:
        os.close(fd)


def read_file(path: str, size: int = 4096) -> bytes:
    """Read a small file of the kernel's, in one piece. Raises OSError."""
    with Fd(os.open(path, os.O_RDONLY | os.O_CLOEXEC)) as file:
        return os.read(file.fileno(), size)


def read_whole(path: str) -> bytes:
    """Read a file of the kernel's that may be large, in as many pieces as it comes in. Raises OSError."""
    parts = []
    with Fd(os.open(path, os.O_RDONLY | os.O_CLOEXEC)) as file:
        while part := os.read(file.fileno(), 1 << 16):
            parts.append(part)
    return b"".join(parts)


def try_to_read(path: str, size: int = 4096) -> bytes:
    """Read as read_file() does, or give nothing where it can't be had."""
    try:
        return read_file(path, size)
    except OSError:
        return b""


HIGHEST = (1 << 31) - 1
"""No fd has a higher number."""


def close_all_but(keep: tuple[int, ...]) -> None:
    """Close every fd from 3 up that is not in `keep` (sorted)."""
    low = 3
    for fd in keep:
        if fd > low:
            close_range(low, fd - 1)
        if fd >= low:
            low = fd + 1
    close_range(low, HIGHEST)


def close_range(first: int, last: int) -> None:
    """Close the fds from `first` to `last`: with one system call, or one by one where that is refused."""
    if syscalls.close_range(first, last):
        return
    try:
        found = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        from resource import RLIMIT_NOFILE, getrlimit

        limit = getrlimit(RLIMIT_NOFILE)[0]
        os.closerange(first, min(last + 1, limit if 0 <= limit < MOST_TRIED else MOST_TRIED))
        return
    for fd in found:
        if first <= fd <= last:
            os.closerange(fd, fd + 1)  # the one that listdir() had is closed already, which is no error here


MOST_TRIED = 65_536
"""How many numbers are tried where nobody says which are open: 6 ms."""


def list_fds() -> list[int]:
    """List the open fds of this process."""
    # listdir() has an fd of its own while it lists, and says it too: a number that is free, or another's, right after.
    return sorted(fd for fd in map(int, os.listdir("/proc/self/fd")) if is_open(fd))


def list_files(pid: int | str) -> dict[int, str] | None:
    """Give what each fd of a process is open on, or None where it can't be seen: it may be dead, or none of ours to look
    at."""
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return None
    found = {}
    for number in numbers:
        try:
            found[int(number)] = os.readlink(f"/proc/{pid}/fd/{number}")
        except OSError:  # closed meanwhile
            continue
    return found


def list_gpus() -> list[str]:
    """List the GPUs that this process has open."""
    return sorted({target for target in (list_files("self") or {}).values() if target.startswith(GPU_DEVICES)})


def identify(fd: int) -> tuple[int, int]:
    """Give (st_dev, st_ino): what an fd number must still mean before a cached one is used (0.85 us)."""
    info = os.fstat(fd)
    return info.st_dev, info.st_ino


def is_still(fd: int, identity: tuple[int, int]) -> bool:
    """Does this fd still mean what it meant? The program may have closed it, and opened something else (M9)."""
    try:
        return identify(fd) == identity
    except OSError:
        return False


def open_null() -> int:
    """Open /dev/null for reading and writing. Where there is none, as in a bare chroot, give an empty memory file: it reads
    as empty, and what is written there costs memory until it is closed. Raises OSError."""
    try:
        return os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in NO_DEVICE:
            raise
    return memfds.make_memory("warmfork-null")


NO_DEVICE = (2, 6, 13, 19, 20)
"""ENOENT, ENXIO, EACCES, ENODEV, ENOTDIR."""


def fill_standard_streams() -> None:
    """Put /dev/null where stdin, stdout or stderr is closed, as daemons do. Otherwise the next fd that anybody opens
    gets that number, and a child that is given its client's stdout is given a socket or somebody's file (1 us)."""
    standard = poll()
    for number in (0, 1, 2):
        standard.register(number, 0)
    while any(events & POLLNVAL for _, events in standard.poll(0)):
        open_null()  # takes the lowest number that is free
