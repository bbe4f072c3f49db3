"""The feed's first message: all that a child is to be, from its client.

A header, then state (marshal), then payload (opaque to all but the entry). What does not fit in one message lies in a
memfd, which is then the first fd. marshal and not wire.py: the child is about to unpickle the same client's payload, so
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
SPILLED = 1
INLINE = 32_768
"""Bytes that travel in the message; more goes through a memfd (the kernel's limit is 212,960)."""
HAS_DOOR, HAS_IN, HAS_OUT, HAS_ERR, HAS_CWD = 1, 2, 4, 8, 16
"""Which fds come first, in this order, after the client's pidfd: the state's "fds" says it."""
STREAM_BITS = HAS_IN, HAS_OUT, HAS_ERR
MORE = b"more"
"""The data of a message that only brings further fds."""


def join(state: dict[str, Any], payload: bytes | memoryview, fds: int) -> tuple[bytes, bytes]:
    """Give the message, and the content of the memfd where it needs one (else b"")."""
    written = dumps(state)
    size = len(payload)
    if len(written) + size <= INLINE:
        return b"".join((HEADER.pack(MAGIC, len(written), size, fds, 0), written, payload)), b""
    return HEADER.pack(MAGIC, len(written), size, fds + 1, SPILLED), b"".join((written, payload))


def split(data: bytes) -> tuple[int, int, int, bool]:
    """Give state size, payload size, fds in all, and whether the two lie in a memfd. Raises ValueError."""
    if len(data) < HEADER.size:
        raise ValueError("a feed shorter than its header")
    magic, state, payload, fds, flags = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise ValueError("no feed")
    return state, payload, fds, bool(flags & SPILLED)


def read_state(data: bytes) -> dict[str, Any]:
    """Give the state back."""
    state: dict[str, Any] = loads(data)
    return state
