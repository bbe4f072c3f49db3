"""Data as bytes: None, bool, int, float, str, bytes, list, tuple, dict and set, and nothing else.

What a child says that nobody trusts comes in this form. To read it runs no code of anybody's, takes memory and time in
proportion to what the bounds below allow, and gives a value or a ValueError.
"""

from __future__ import annotations

from _struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

LARGEST = 64 << 20
"""Bytes of an encoded value."""

DEEPEST = 100
"""Lists in lists."""

MOST_ITEMS = 2_000_000
"""Values in a value: an empty set takes five bytes here and 216 in memory."""

MOST_COMPARED = 450_000_000
"""What reading keys and members may cost that are neither text nor bytes nor small numbers: whoever makes them can have
their hashes collide, and then each is compared with all before it, to its last part. 10,000 tuples of three numbers are as
many as there can be. Ten seconds or so, at worst."""

EACH, PART = 5, 64
"""What it costs to compare two keys, where 1 is each value in them, and so many bytes."""

SMALL = (1 << 61) - 2
"""Integers up to here are their own hash."""

SIZE = Struct("<I")
NUMBER = Struct("<q")
REAL = Struct("<d")


class NotData(ValueError):
    """A value has a part that is no data: where, and what it is."""


def encode(value: object, largest: int = LARGEST) -> bytes:
    """Give a value as bytes. Subclasses (an IntEnum, a namedtuple, an OrderedDict) become what they are based on.

    Raises NotData for what is no data, refers to itself, or is too deep, and for more than `largest` bytes.
    """
    writer = Writer(largest)
    writer.write(value, "result", 0)
    return b"".join(writer.parts)


class Writer:
    """The bytes so far, and the containers that the value being written is in."""

    def __init__(self, largest: int) -> None:
        self.parts: list[bytes] = []
        self.room = largest
        self.items = MOST_ITEMS
        self.open: set[int] = set()

    def put(self, part: bytes, path: str) -> None:
        """Add bytes. Raises NotData where there is no room for them."""
        self.room -= len(part)
        if self.room < 0:
            raise NotData(f"{path}: the whole is too large: return less, or write it to a file")
        self.parts.append(part)

    def put_sized(self, tag: bytes, content: bytes, path: str) -> None:
        """Add bytes behind their length."""
        self.put(tag + SIZE.pack(min(len(content), 0xFFFFFFFF)), path)
        self.put(content, path)

    def write(self, value: object, path: str, depth: int) -> None:
        """Write one value. `path` is how to get there."""
        self.items -= 1
        if self.items < 0:
            raise NotData(f"{path}: more than {MOST_ITEMS:,} values: return fewer, or bytes")
        if value is None or value is True or value is False:
            self.put(b"N" if value is None else b"T" if value else b"F", path)
        elif isinstance(value, int):
            self.write_int(int.__index__(value), path)
        elif isinstance(value, float):
            self.put(b"f" + REAL.pack(float.__float__(value)), path)
        elif isinstance(value, str):
            self.put_sized(b"s", str.encode(value, "utf-8", "surrogatepass"), path)
        elif isinstance(value, (bytes, bytearray)):
            if len(value) > self.room:
                raise NotData(f"{path}: {len(value):,} bytes are too many: return less, or write it to a file")
            self.put_sized(b"b", bytes(value), path)
        elif isinstance(value, (list, tuple, dict, set, frozenset)):
            self.write_many(value, path, depth)
        else:
            kind = type(value)
            raise NotData(f"{path} is no data, but a {kind.__module__}.{kind.__qualname__}")

    def write_int(self, value: int, path: str) -> None:
        """Write an integer of any size."""
        if -(1 << 63) <= value < 1 << 63:
            self.put(b"i" + NUMBER.pack(value), path)
        else:
            self.put_sized(b"I", value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True), path)

    def write_many(
        self, value: list[Any] | tuple[Any, ...] | dict[Any, Any] | set[Any] | frozenset[Any], path: str, depth: int
    ) -> None:
        """Write a container."""
        if depth == DEEPEST:
            raise NotData(f"{path} is nested too deep: {DEEPEST} levels are the most")
        if id(value) in self.open:
            raise NotData(f"{path} contains itself")
        self.open.add(id(value))
        tag = b"l" if isinstance(value, list) else b"t" if isinstance(value, tuple) else b"d"
        if isinstance(value, (set, frozenset)):
            tag = b"e"
        self.put(tag + SIZE.pack(len(value)), path)
        if isinstance(value, dict):
            for key, item in dict.items(value):
                self.write(key, f"a key of {path}", depth + 1)
                self.write(item, f"{path}[{key!r:.40}]", depth + 1)
        else:
            for number, item in enumerate(value):
                self.write(item, f"{path}[{number}]", depth + 1)
        self.open.discard(id(value))


def decode(data: bytes | bytearray | memoryview, largest: int = LARGEST) -> Any:
    """Give the value that these bytes stand for. Raises ValueError, whatever they are."""
    if len(data) > largest:
        raise ValueError(f"{len(data):,} bytes are too many")
    reader = Reader(data)
    value = reader.read(0)
    if reader.at != len(data):
        raise ValueError("something follows the value")
    return value


class Reader:
    """The bytes, and how far they are read."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self.data = memoryview(data)
        self.at = 0
        self.items = MOST_ITEMS
        self.odd_keys = self.compared = 0

    def take(self, size: int) -> memoryview:
        """Take so many bytes. Raises ValueError where there are fewer."""
        end = self.at + size
        if end > len(self.data):
            raise ValueError("the value is cut short")
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def take_sized(self) -> memoryview:
        """Take bytes that come behind their length."""
        return self.take(SIZE.unpack(self.take(4))[0])

    def read(self, depth: int) -> Any:
        """Read one value."""
        self.items -= 1
        if self.items < 0 or depth > DEEPEST:
            raise ValueError("a value of too many parts, or too deep")
        read = READERS.get(self.take(1)[0])
        if read is None:
            raise ValueError("not the beginning of a value")
        return read(self, depth)

    def count(self, least: int) -> int:
        """Read how many items a container has, each of at least so many bytes. Raises ValueError where there can't be so
        many."""
        number: int = SIZE.unpack(self.take(4))[0]
        if number * least > len(self.data) - self.at:
            raise ValueError("the value is cut short")
        return number

    def read_list(self, depth: int) -> list[Any]:
        """Read the items of a list or tuple."""
        return [self.read(depth + 1) for _ in range(self.count(1))]

    def read_dict(self, depth: int) -> dict[Any, Any]:
        """Read a dict."""
        found = {}
        for _ in range(self.count(2)):
            key = self.read_key(depth + 1)
            found[key] = self.read(depth + 1)
        return found

    def read_set(self, depth: int) -> set[Any]:
        """Read a set."""
        return {self.read_key(depth + 1) for _ in range(self.count(1))}

    def read_key(self, depth: int) -> Any:
        """Read a key or member. Raises ValueError for what has no hash."""
        at, items = self.at, self.items
        key = self.read(depth)
        if not isinstance(key, (str, bytes)) and not (isinstance(key, int) and -SMALL <= key <= SMALL):
            self.compared += self.odd_keys * (EACH + items - self.items + (self.at - at) // PART)
            self.odd_keys += 1
            if self.compared > MOST_COMPARED:
                raise ValueError(f"{self.odd_keys:,} keys or more that are neither text nor small numbers: too many")
        try:
            hash(key)
        except TypeError as error:
            raise ValueError(str(error)) from None
        return key


READERS: dict[int, Callable[[Reader, int], Any]] = {
    b"N"[0]: lambda reader, depth: None,
    b"T"[0]: lambda reader, depth: True,
    b"F"[0]: lambda reader, depth: False,
    b"i"[0]: lambda reader, depth: NUMBER.unpack(reader.take(8))[0],
    b"I"[0]: lambda reader, depth: int.from_bytes(reader.take_sized(), "little", signed=True),
    b"f"[0]: lambda reader, depth: REAL.unpack(reader.take(8))[0],
    b"s"[0]: lambda reader, depth: str(reader.take_sized(), "utf-8", "surrogatepass"),
    b"b"[0]: lambda reader, depth: bytes(reader.take_sized()),
    b"l"[0]: Reader.read_list,
    b"t"[0]: lambda reader, depth: tuple(reader.read_list(depth)),
    b"d"[0]: Reader.read_dict,
    b"e"[0]: Reader.read_set,
}
