"""Memory files: memfds, and what stands in for them."""

from __future__ import annotations

import os

from warmfork._machine import syscalls


def make_memory(name: str, content: bytes = b"", size: int = 0, sealable: bool = False) -> int:
    """Make a memfd that holds `content`, positioned at its start, and is at least `size` bytes large. Where the kernel
    gives none, a file that has no name any longer; all of `size` is allocated in it, so that no mapping of it can fail
    with SIGBUS. Raises OSError."""
    fd = make_memfd(name, sealable)
    try:
        write_all(fd, content)
        if size and no_memfds:
            os.posix_fallocate(fd, 0, size)
        elif size:
            os.ftruncate(fd, size)
    except BaseException:
        os.close(fd)
        raise
    return fd


no_memfds = False
"""Does this kernel, or a filter, refuse memfds? Learnt when the first one is made."""

REFUSED = (1, 13, 38)
"""EPERM, EACCES, ENOSYS: a filter's words for "no such call"."""


def make_memfd(name: str, sealable: bool) -> int:
    """Make an empty memfd, or a file in its place."""
    global no_memfds
    try:
        return syscalls.create_memfd(name, sealable)
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        no_memfds = True
    return make_nameless(name)


def make_nameless(name: str) -> int:
    """Make a file that has no name any longer, in memory if there is such a folder. Its former name shows in /proc."""
    refusal = OSError(2, "no folder for files in memory")
    for folder in ("/dev/shm", os.environ.get("TMPDIR") or "/tmp", "/var/tmp"):
        path = f"{folder}/{name}-{os.urandom(6).hex()}"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            refusal = error
            continue
        os.unlink(path)
        return fd
    raise refusal


def write_all(fd: int, content: bytes | memoryview, at: int = 0) -> None:
    """Write it all to a file, at this offset, leaving its position at the start."""
    rest = memoryview(content)
    while rest:
        written = os.pwrite(fd, rest, at)
        at += written
        rest = rest[written:]


def read_all(fd: int, size: int | None = None) -> bytes:
    """Read a file from its start: all of it, or `size` bytes."""
    wanted = os.fstat(fd).st_size if size is None else size
    parts = []
    at = 0
    while at < wanted:
        part = os.pread(fd, wanted - at, at)
        if not part:
            break
        parts.append(part)
        at += len(part)
    return b"".join(parts)
