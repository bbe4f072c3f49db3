"""A child's stdin, stdout and stderr: the objects are the template's, which others may hold; the files are its client's.

No object is ever made anew: what has taken `sys.stdout` (`from sys import stdout`, a default argument, a logging handler)
would write to one that nobody flushes. Only what the object knows of its file is put right, where it is wrong.
"""

from __future__ import annotations

import os
import sys
from _stat import S_IFMT, S_ISCHR, S_ISFIFO, S_ISSOCK

from warmfork._machine import fds, sockets
from warmfork._words import feed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAMES = ("stdin", "stdout", "stderr")


class Standard:
    """A stream as the interpreter has made it: the object, its file's kind, and whether each line is flushed."""

    __slots__ = ("by_line", "kind", "stream")

    def __init__(self, number: int) -> None:
        self.stream: Any = getattr(sys, f"__{NAMES[number]}__")
        self.kind = S_IFMT(os.fstat(number).st_mode)
        self.by_line: bool | None = getattr(self.stream, "line_buffering", None)


_made: dict[int, Standard] = {}


def prepare() -> None:
    """In the template, before the preload: note what the interpreter has made of stdin, stdout and stderr."""
    for number in (0, 1, 2):
        _made[number] = Standard(number)


def open_alike(number: int) -> int:
    """Open something of the kind of file that stdout or stderr is fitted to, for a rehearsal that is to leave it so."""
    kind = _made[number].kind
    if S_ISFIFO(kind):
        reader, writer = os.pipe()
        os.close(reader)
        return writer
    if S_ISSOCK(kind):
        ours, theirs = sockets.make_pair()
        ours.close()
        return theirs.detach()
    return fds.open_null() if S_ISCHR(kind) else os.dup(number)


def take(layout: int, passed: list[int]) -> None:
    """Put the files that the client sent, taken off the front of the list, in the places of 0, 1 and 2. A stream that the
    client has not is the null device, and None in sys, as it is there; but stdin, which is the null device already."""
    for number, bit in enumerate(feed.STREAM_BITS):
        if layout & bit:
            received = passed.pop(0)
            os.dup2(received, number)
            os.close(received)
        elif number:
            null = fds.open_null()
            os.dup2(null, number)
            os.close(null)
            name = NAMES[number]
            if getattr(sys, name) is getattr(sys, f"__{name}__"):
                setattr(sys, name, None)
            setattr(sys, f"__{name}__", None)
    for number, standard in _made.items():
        if number or layout & feed.HAS_IN:
            fit(number, standard)


def fit(number: int, standard: Standard) -> None:
    """Fit a stream to the file that it writes to now: what the interpreter would have chosen for that, where it was the
    interpreter who chose. What the program has set stays, and so does what it has put in the stream's place."""
    mode = os.fstat(number).st_mode
    kind = S_IFMT(mode)
    stream = standard.stream
    if kind != standard.kind or not number:  # a terminal is of the null device's kind, and can't seek
        standard.kind = kind
        renew_file(stream, number)
    # None: there is no such stream. True in stderr, and False in what PYTHONUNBUFFERED makes, whatever the file is.
    if number == 1 and standard.by_line is not None and not stream.write_through:
        by_line = S_ISCHR(mode) and os.isatty(1)
        if by_line != standard.by_line and stream.line_buffering == standard.by_line:
            stream.reconfigure(line_buffering=by_line)
            standard.by_line = by_line


def renew_file(stream: Any, number: int) -> None:
    """Have the buffer below a stream ask its file anew whether that can seek, and how large its blocks are: the file
    object remembers it for good, so the buffer, which stays the same one, gets another."""
    from _io import BufferedReader, BufferedWriter

    try:
        buffer = stream.buffer
        if type(buffer) is not (BufferedWriter if number else BufferedReader) or not is_over(buffer.raw, number):
            return
        buffer.flush()
    except (AttributeError, OSError, ValueError):
        return  # no such stream; detached, closed, or put over another file by the program
    file = open_file(buffer.raw, number)
    buffer.__init__(file, file._blksize)  # type: ignore[misc]


def is_over(file: Any, number: int) -> bool:
    """Is this the interpreter's own file object of this number? Raises ValueError where it is closed."""
    from _io import FileIO

    return type(file) is FileIO and not file.closefd and file.fileno() == number


def open_file(old: Any, number: int) -> Any:
    """Make a file object of this number, with the name that the one before it had."""
    from _io import FileIO

    file = FileIO(number, "wb" if number else "rb", closefd=False)
    file.name = old.name
    return file


_buffers: list[Any] = []
"""Buffers that write_through() has taken out from below a stream: somebody may hold them, and write to them."""


def write_through() -> None:
    """Have what is printed written at once, as under `python -u`: what lies in a buffer is lost to who is killed."""
    for number in (1, 2):
        stream = _made[number].stream
        try:
            buffer = stream.buffer
            if not is_over(buffer.raw, number):
                continue
            stream.flush()
        except (AttributeError, OSError, ValueError):
            continue  # as in renew_file(), or it has no buffer to begin with
        _buffers.append(buffer)
        file = open_file(buffer.raw, number)
        stream.__init__(file, stream.encoding, stream.errors, "\n", write_through=True)


def flush() -> None:
    """Flush stdout and stderr: those in sys, those that the interpreter made, and what was below them. A stream that can't
    be flushed is the user's business, and has told already."""
    flushed = {id(None)}
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__, *_buffers):
        if id(stream) in flushed:
            continue
        flushed.add(id(stream))
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            # Closed, replaced by something without flush(), or its reader is gone: nobody is left to tell.
            continue
