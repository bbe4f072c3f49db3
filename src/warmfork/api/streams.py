"""stdin, stdout and stderr of a child: what a user gives for them, and the pipes that come of it."""

from __future__ import annotations

import os

from warmfork._machine import fds
from warmfork._machine.streams import list_open

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Protocol, TypeAlias

    class HasFileno(Protocol):
        def fileno(self) -> int: ...

    Stream: TypeAlias = int | IO[bytes] | IO[str] | HasFileno | None

PIPE, STDOUT, DEVNULL = -1, -2, -3
"""As subprocess has them, and equal to those."""

NAMES = ("stdin", "stdout", "stderr")


class Streams:
    """What a child gets as 0, 1 and 2 (-1: what it has by itself), and our ends of the pipes among them (-1: none)."""

    __slots__ = ("made", "ours", "theirs")

    def __init__(self, stdin: Stream = None, stdout: Stream = None, stderr: Stream = None) -> None:
        """Raises TypeError and ValueError for what is no stream, OSError where there is no fd left."""
        self.theirs = [-1, -1, -1]
        self.ours = [-1, -1, -1]
        self.made: list[int] = []
        fds.fill_standard_streams()  # or a pipe of ours would get the number of a stream that is closed
        try:
            for number, given in enumerate((stdin, stdout, stderr)):
                self.theirs[number] = self.open(number, given)
        except BaseException:
            self.close()
            raise

    def open(self, number: int, given: Stream) -> int:
        """Give the child's fd for what a user gave."""
        if given is None:
            return -1
        if isinstance(given, bool) or not (isinstance(given, int) or hasattr(given, "fileno")):
            raise TypeError(f"{NAMES[number]} is PIPE, DEVNULL, an fd or a file, not {given!r}")
        fd = given if isinstance(given, int) else given.fileno()
        if fd >= 0:
            os.fstat(fd)  # EBADF now, and not in the child
            return fd
        if fd == STDOUT and number == 2:
            if self.theirs[1] >= 0 or 1 in list_open():
                return max(1, self.theirs[1])
            fd = DEVNULL  # this program has no stdout, and so the child has none
        if fd == DEVNULL:
            return self.keep(fds.open_null())
        if fd != PIPE:
            raise ValueError(f"{NAMES[number]} is PIPE, DEVNULL, an fd or a file, not {given!r}")
        reader, writer = os.pipe()
        self.ours[number] = reader if number else writer
        return self.keep(writer if number else reader)

    def keep(self, fd: int) -> int:
        """Remember an fd of the child's that was opened here."""
        self.made.append(fd)
        return fd

    def let_go(self) -> None:
        """The child has its own copies: close those that were made for it."""
        made, self.made = self.made, []
        fds.close_all(made)

    def take(self, number: int) -> int:
        """Take our end of a pipe over; -1 where there is none."""
        fd, self.ours[number] = self.ours[number], -1
        return fd

    def close(self) -> None:
        """Close what nobody has taken."""
        self.let_go()
        for number in range(3):
            fd = self.take(number)
            if fd >= 0:
                os.close(fd)

    def open_files(self) -> list[IO[bytes] | None]:
        """Give our ends as files, as subprocess.Popen does."""
        return [
            None if self.ours[number] < 0 else open(self.take(number), "rb" if number else "wb") for number in range(3)
        ]
