"""Messages to bytes and back. Little-endian, self-delimiting, no pickle: any bytes give a message or a WireError.

One byte of tag, then the fields in order: an int is 8 bytes, a str or bytes is 4 bytes of length and the data (str as
UTF-8 with surrogateescape, as file names are), a tuple of str is 4 bytes of count and so many strs.
"""

from __future__ import annotations

from _struct import Struct

from warmfork._words.messages import BY_TAG, Message

LARGEST = 60_000
"""Bytes in one message. The kernel takes 212,960 in one SEQPACKET message (its default send buffer); buffers over
128 KiB are fresh mappings in glibc, so what is larger travels in a memfd."""

MOST_ITEMS = 1 << 18
"""Strings in the tuples of one message, as in a spec, which may be large: 16 million empty ones take 9 seconds to read,
and whoever reads has others to serve. An environment has as many variables as it likes, up to a quarter of a million."""

SIZE = Struct("<I")
INT = Struct("<q")
FIXED = {
    tag: Struct(f"<B{len(kind.FIELDS)}q") for tag, kind in BY_TAG.items() if all(field == "int" for field in kind.KINDS)
}


class WireError(ValueError):
    """These bytes are no message."""


def encode(message: Message, largest: int = LARGEST) -> bytes:
    """Give the message as bytes. Raises WireError where it would be larger than `largest` bytes."""
    fixed = FIXED.get(message.TAG)
    if fixed is not None:
        return fixed.pack(message.TAG, *message)
    parts = [bytes((message.TAG,))]
    for kind, value in zip(message.KINDS, message, strict=True):
        if kind == "int":
            parts.append(INT.pack(value))
        elif kind == "str":
            add_block(parts, encode_text(value))
        elif kind == "bytes":
            add_block(parts, value)
        else:
            parts.append(SIZE.pack(len(value)))
            for item in value:
                add_block(parts, encode_text(item))
    data = b"".join(parts)
    if len(data) > largest:
        raise WireError(f"{type(message).__name__} of {len(data)} bytes is over the {largest} of one message")
    return data


def encode_text(text: str) -> bytes:
    """Give text as bytes. A surrogate that stands for no byte has no encoding, and must not cost the message."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace")


def fit(text: str, most: int) -> str:
    """Give the beginning of a text that may be of any length: as much as takes `most` bytes in a message."""
    data = encode_text(text)
    return text if len(data) <= most else data[:most].decode("utf-8", "surrogateescape")


def keep_end(text: str, most: int = 16_000) -> str:
    """Give the end of a text that is too long for a message: `most` bytes of it."""
    data = text.encode("utf-8", "backslashreplace")
    return text if len(data) <= most else data[-most:].decode("utf-8", "ignore")


def add_block(parts: list[bytes], data: bytes) -> None:
    """Append length and data."""
    parts.append(SIZE.pack(len(data)))
    parts.append(data)


def decode(data: bytes) -> Message:
    """Give the message that these bytes are. Raises WireError for any others."""
    if not data:
        raise WireError("no bytes")
    kind = BY_TAG.get(data[0])
    if kind is None:
        raise WireError(f"no message has the tag {data[0]}")
    fixed = FIXED.get(data[0])
    if fixed is not None:
        if len(data) != fixed.size:
            raise WireError(f"{kind.__name__} has {fixed.size} bytes, not {len(data)}")
        return kind(*fixed.unpack(data)[1:])
    reader = Reader(data)
    message = kind(*[reader.read(field) for field in kind.KINDS])
    if reader.at != len(data):
        raise WireError(f"{len(data) - reader.at} bytes too many behind a {kind.__name__}")
    return message


class Reader:
    """Reads fields off the front of bytes."""

    __slots__ = ("at", "data", "items")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 1
        self.items = MOST_ITEMS

    def read(self, kind: str) -> object:
        """Read one field of this kind."""
        if kind == "int":
            return INT.unpack(self.take(8))[0]
        if kind == "str":
            return self.block().decode("utf-8", "surrogateescape")
        if kind == "bytes":
            return self.block()
        count = SIZE.unpack(self.take(4))[0]
        self.items -= count
        if count > len(self.data) // 4 or self.items < 0:  # each item takes 4 bytes at least: refuse before looping
            raise WireError(f"{count} items in {len(self.data)} bytes")
        return tuple(self.block().decode("utf-8", "surrogateescape") for _ in range(count))

    def block(self) -> bytes:
        """Read length and data."""
        return self.take(SIZE.unpack(self.take(4))[0])

    def take(self, size: int) -> bytes:
        """Read so many bytes."""
        start, self.at = self.at, self.at + size
        if self.at > len(self.data):
            raise WireError(f"{self.at - len(self.data)} bytes too few")
        return self.data[start : self.at]
