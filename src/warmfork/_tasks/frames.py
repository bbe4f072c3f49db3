"""What a child that runs somebody's code and its client say to each other, past the feed: both ways on one stream.

A frame is a kind, a length and that many bytes. What comes from the child is a claim of whoever's code runs there: it is
read by values.py, which runs nothing, and the outcome of a child is never taken from it.
"""

from __future__ import annotations

from _struct import Struct

from warmfork._tasks import values

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

DATA, PICKLE, NOTHING, REFUSED = KINDS = b"D", b"P", b"N", b"R"
"""What the bytes of a reply are: encoded data; a pickle, for whoever trusts the child; nothing, where the code failed; or
why there is none, as text."""


REPLY_FIELDS = Struct("<QcIQIII")  # number, kind, has an error, then the sizes of content, type, message, traceback
COMMAND_FIELDS = Struct("<Q?I")  # number, is text, the size of the name


class Reply:
    """What a snippet came to: its value, still as bytes, and the exception that ended it as (type, message, traceback)."""

    __slots__ = ("content", "error", "kind", "number")

    def __init__(self, number: int, kind: bytes, content: bytes, error: tuple[str, str, str] | None) -> None:
        self.number, self.kind, self.content, self.error = number, kind, content, error

    def encode(self) -> bytes:
        """Give the frame."""
        if self.error is None:
            size = REPLY_FIELDS.size + len(self.content)
            fields = REPLY_FIELDS.pack(self.number, self.kind, 0, len(self.content), 0, 0, 0)
            return b"".join((HEADER.pack(REPLY, size), fields, self.content))
        texts = [text.encode("utf-8", "surrogatepass") for text in self.error]
        sizes = list(map(len, texts))
        fields = REPLY_FIELDS.pack(self.number, self.kind, 1, len(self.content), *sizes)
        whole = b"".join((fields, self.content, *texts))
        return HEADER.pack(REPLY, len(whole)) + whole


def read_reply(data: bytes) -> Reply:
    """Read a reply's frame, without its header. Raises ValueError for anything else."""
    if len(data) < REPLY_FIELDS.size:
        raise ValueError("no reply")
    number, kind, failed, *sizes = REPLY_FIELDS.unpack_from(data)
    if kind not in KINDS or sum(sizes) + REPLY_FIELDS.size != len(data):
        raise ValueError("no reply")
    if not failed and sizes[0] + REPLY_FIELDS.size == len(data):
        return Reply(number, kind, data[REPLY_FIELDS.size :], None)
    parts = []
    at = REPLY_FIELDS.size
    for size in sizes:
        parts.append(data[at : at + size])
        at += size
    content, *texts = parts
    error = None
    if failed:
        name, message, traceback = [text.decode("utf-8", "replace") for text in texts]
        error = name, message, traceback
    return Reply(number, kind, content, error)


def make_command(number: int, code: str | bytes, name: str) -> bytes:
    """Give the frame that has a session run this code."""
    is_text = isinstance(code, str)
    raw = code.encode("utf-8", "surrogatepass") if isinstance(code, str) else code
    called = name.encode()
    size = COMMAND_FIELDS.size + len(called) + len(raw)
    return b"".join((HEADER.pack(COMMAND, size), COMMAND_FIELDS.pack(number, is_text, len(called)), called, raw))


def read_command(data: bytes | bytearray) -> tuple[int, str | bytes, str]:
    """Read a command's frame, without its header."""
    number, is_text, size = COMMAND_FIELDS.unpack_from(data)
    start = COMMAND_FIELDS.size
    name = data[start : start + size].decode()
    raw = bytes(data[start + size :])
    return number, raw.decode("utf-8", "surrogatepass") if is_text else raw, name


def pack_task(settings: dict[str, Any], rest: bytes) -> bytes:
    """Give the payload of a child: what it is to do, and the code or the pickled call."""
    said = values.encode(settings)
    return values.SIZE.pack(len(said)) + said + rest


def unpack_task(payload: bytes | memoryview) -> tuple[dict[str, Any], memoryview]:
    """Give a payload's two parts."""
    view = memoryview(payload)
    end = 4 + values.SIZE.unpack(view[:4])[0]
    return values.decode(view[4:end]), view[end:]
