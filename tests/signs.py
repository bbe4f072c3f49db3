"""Signs from children: a FIFO that they write to, so that a test waits for what it needs and for no clock."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Sign:
    """The reading end of a FIFO. `path` is for the children; each sign is one line."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / f"sign-{os.urandom(4).hex()}")
        os.mkfifo(self.path)
        self.fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)  # also for writing, so that it has no end

    def wait(self, count: int = 1, timeout: float = 20.0) -> list[str]:
        """Wait for so many signs, and give them."""
        data = b""
        deadline = time.monotonic() + timeout
        while data.count(b"\n") < count:
            rest = deadline - time.monotonic()
            assert select.select([self.fd], [], [], max(0.0, rest))[0], f"{count} signs wanted, these came: {data!r}"
            data += os.read(self.fd, 65_536)
        return data.decode().splitlines()

    def is_quiet(self, timeout: float) -> bool:
        """Does no sign come within this time?"""
        return not select.select([self.fd], [], [], timeout)[0]


@contextmanager
def make_sign(folder: Path) -> Iterator[Sign]:
    sign = Sign(folder)
    try:
        yield sign
    finally:
        os.close(sign.fd)
        os.unlink(sign.path)


def give(path: str, text: str = "") -> None:
    """Give a sign, from a child: a line of text, its pid by default."""
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, f"{text or os.getpid()}\n".encode())
    os.close(fd)
