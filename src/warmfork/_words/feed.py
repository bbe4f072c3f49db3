"""The feed's first message: all that a child is to be, from its client.

A header, then state (marshal), then payload (opaque to all but the entry). What does not fit in one message lies in a
memfd, which is then the first fd; or it follows in messages of PIECE bytes, after all fds, where a limit of the size of
files, which memfds obey, forbids that. marshal and not wire.py: the child is about to unpickle the same client's payload, so
there is nothing to defend, and marshal takes 3 us where our own codec takes 40.
"""

from __future__ import annotations

from _struct import Struct
from marshal import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HEADER = Struct("<4sIIII")  # magic, state size, payload size, fds in all, flags
MAGIC = b"feed"
SPILLED, FOLLOWS = 1, 2
"""Flags: state and payload lie in a memfd; they follow."""
PIECE = 65_536
INLINE = 32_768
"""Bytes that travel in the message; more goes through a memfd (the kernel's limit is 212,960)."""
HAS_DOOR, HAS_IN, HAS_OUT, HAS_ERR, HAS_CWD = 1, 2, 4, 8, 16
"""Which fds come first, in this order, after the client's pidfd: the state's "fds" says it."""
STREAM_BITS = HAS_IN, HAS_OUT, HAS_ERR
MORE = b"more"
"""The data of a message that only brings further fds."""


def join(state: dict[str, Any], payload: bytes | memoryview, fds: int, follows: bool = False) -> tuple[bytes, bytes]:
    """Give the message, and what does not fit in it (else b""): the content of a memfd, or what follows."""
    written = dumps(state)
    size = len(payload)
    if len(written) + size <= INLINE:
        return b"".join((HEADER.pack(MAGIC, len(written), size, fds, 0), written, payload)), b""
    count, flag = (fds, FOLLOWS) if follows else (fds + 1, SPILLED)
    return HEADER.pack(MAGIC, len(written), size, count, flag), b"".join((written, payload))


def split(data: bytes) -> tuple[int, int, int, int]:
    """Give state size, payload size, fds in all, and flags. Raises ValueError."""
    if len(data) < HEADER.size:
        raise ValueError("what a child was sent is shorter than its header")
    magic, state, payload, fds, flags = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise ValueError("this is not what a child is sent")
    return state, payload, fds, flags


def read_state(data: bytes) -> dict[str, Any]:
    """Give the state back."""
    state: dict[str, Any] = loads(data)
    return state
