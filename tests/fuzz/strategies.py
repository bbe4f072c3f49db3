"""What a process that has lost its mind may say: any bytes, messages that mean something elsewhere, and any fds."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from hypothesis import strategies as st

from warmfork._words import messages, wire
from warmfork._words.messages import BY_TAG, Message

NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 70_000)
FIELDS: dict[str, st.SearchStrategy[object]] = {
    "int": NUMBERS,
    "str": st.text(max_size=20) | st.just("a\0b"),
    "bytes": st.binary(max_size=200),
    "tuple[str, ...]": st.lists(st.text(max_size=10), max_size=5).map(tuple),
}

OUT_OF_BOUNDS = (messages.Register, messages.Sweep, messages.Track, messages.Door, messages.Inherit)
"""These are obeyed: what is registered is removed in the end, and this is our own tree. The last two are obeyed of the
program alone, which this process is: what another makes of them is tried in tests/attacks."""


def make_message(kind: type[Message]) -> st.SearchStrategy[Message]:
    """Any message of this kind."""
    return st.tuples(*(FIELDS[field] for field in kind.KINDS)).map(lambda values: kind(*values))


KINDS = [kind for kind in BY_TAG.values() if not issubclass(kind, OUT_OF_BOUNDS)]
MESSAGES = st.sampled_from(KINDS).flatmap(make_message)


def spoil(data: bytes, at: int, how: int) -> bytes:
    """Change a byte, or cut the message there; never into a message that is obeyed."""
    at %= len(data)
    spoilt = data[:at] if how < 0 else data[:at] + bytes((how,)) + data[at + 1 :]
    return spoilt if not spoilt or spoilt[0] not in {kind.TAG for kind in OUT_OF_BOUNDS} else b"\xff"


ENCODED = MESSAGES.map(wire.encode)
SPOILT = st.builds(spoil, ENCODED, st.integers(0, 500), st.integers(-1, 255))
RANDOM = st.binary(max_size=300).filter(lambda data: not data or data[0] not in {k.TAG for k in OUT_OF_BOUNDS})
LARGE = st.integers(1, 200_000).map(lambda size: b"\xff" * size)
WORDS = RANDOM | ENCODED | SPOILT | LARGE


def open_null() -> int:
    return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)


def open_end() -> int:
    """One end of a socket whose other end is closed."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    other.close()
    return one.detach()


def open_pipe() -> int:
    """A pipe that is full of nothing and has no writer."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    os.close(writer)
    return reader


def open_vast() -> int:
    """A file that says that it is a terabyte."""
    fd = os.memfd_create("vast", os.MFD_CLOEXEC)
    os.ftruncate(fd, 1 << 40)
    return fd


def open_nonsense() -> int:
    """A memfd with something in it that is no spec."""
    fd = os.memfd_create("nonsense", os.MFD_CLOEXEC)
    os.write(fd, os.urandom(100))
    return fd


OPENERS: tuple[Callable[[], int], ...] = (
    open_null,
    open_end,
    open_pipe,
    open_vast,
    open_nonsense,
    lambda: os.pidfd_open(os.getpid()),
    lambda: os.open("/", os.O_PATH | os.O_CLOEXEC),
)
FILES = st.lists(st.sampled_from(OPENERS), max_size=6)
"""What to open and send along."""
