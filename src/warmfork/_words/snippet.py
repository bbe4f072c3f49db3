"""What a child that runs somebody's code and its client say to each other, past the feed: both ways on one stream.

A frame is a kind, a length and that many bytes. What comes from the child is a claim of whoever's code runs there: it is
read by values.py, which runs nothing, and the outcome of a child is never taken from it.
"""

from __future__ import annotations

from _struct import Struct

from warmfork._words import values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HEADER = Struct("<cQ")
COMMAND, REPLY = b"C", b"R"

LARGEST = values.LARGEST + (1 << 20)
"""Bytes of a frame from somebody who is not trusted: a value, a message and a traceback."""

LARGEST_TRUSTED = 1 << 40

LARGEST_TEXT = 64_000
"""Characters of a traceback that are sent: its end, which says what happened."""

DATA, PICKLE, NOTHING, REFUSED = "data", "pickle", "nothing", "refused"
"""What the bytes of a reply are: encoded data; a pickle, for whoever trusts the child; nothing, where the code failed; or
why there is none, as text."""


class Reply:
    """What a snippet came to: its value, still as bytes, and the exception that ended it as (type, message, traceback)."""

    __slots__ = ("content", "error", "kind", "number")

    def __init__(self, number: int, kind: str, content: bytes, error: tuple[str, str, str] | None) -> None:
        self.number, self.kind, self.content, self.error = number, kind, content, error

    def encode(self) -> bytes:
        """Give the frame."""
        whole = values.encode((self.number, self.kind, self.content, self.error), LARGEST_TRUSTED)
        return HEADER.pack(REPLY, len(whole)) + whole


def read_reply(data: bytes | memoryview) -> Reply:
    """Read a reply's frame, without its header. Raises ValueError for anything else."""
    match values.decode(data, LARGEST_TRUSTED):
        case (int(number), str(kind), bytes(content), None):
            return Reply(number, kind, content, None)
        case (int(number), str(kind), bytes(content), (str(name), str(message), str(traceback))):
            return Reply(number, kind, content, (name, message, traceback))
    raise ValueError("no reply")


def make_command(number: int, code: str | bytes, name: str) -> bytes:
    """Give the frame that has a session run this code."""
    whole = values.encode((number, code, name), LARGEST_TRUSTED)
    return HEADER.pack(COMMAND, len(whole)) + whole


def pack_task(settings: dict[str, Any], rest: bytes) -> bytes:
    """Give the payload of a child: what it is to do, and the code or the pickled call."""
    said = values.encode(settings)
    return values.SIZE.pack(len(said)) + said + rest


def unpack_task(payload: bytes | memoryview) -> tuple[dict[str, Any], memoryview]:
    """Give a payload's two parts."""
    view = memoryview(payload)
    end = 4 + values.SIZE.unpack(view[:4])[0]
    return values.decode(view[4:end]), view[end:]
