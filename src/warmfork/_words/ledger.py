"""The ledger: which names exist, and who made them. Names are a set: whoever unregisters one clears it."""

from __future__ import annotations


class Entry:
    """A name in the ledger."""

    __slots__ = ("kind", "maker", "name", "title")

    def __init__(self, kind: str, name: str, maker: int, title: str) -> None:
        self.kind, self.name, self.maker, self.title = kind, name, maker, title


class Ledger:
    """The names of a tree."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str], Entry] = {}

    def register(self, kind: str, name: str, maker: int, title: str) -> None:
        """Enter a name. Its first maker stays the one who is named."""
        self.entries.setdefault((kind, name), Entry(kind, name, maker, title))

    def unregister(self, kind: str, name: str) -> None:
        """Its owner removed it. An unknown name is no error (row 61)."""
        self.entries.pop((kind, name), None)

    def take_all(self) -> list[Entry]:
        """Give what is left, and forget it."""
        left = list(self.entries.values())
        self.entries.clear()
        return left
