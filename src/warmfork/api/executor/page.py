"""Memory that an executor and its workers share: a line of 64 bytes for each worker, so that none disturbs another's."""

from __future__ import annotations

from mmap import MAP_SHARED, PROT_READ, PROT_WRITE, mmap

from warmfork._machine import fds, memfds, state
from warmfork._words import work
from warmfork._words.work import LINES, NAME, NAMES

SIZE = work.PAGE + LINES * NAMES * NAME
"""Bytes of a file; memory only where written."""


class Line:
    """The line of one worker: words of 64 bits (see _words/work.py)."""

    __slots__ = ("names", "number", "page", "words")

    def __init__(self, page: Page, number: int) -> None:
        self.page, self.number = page, number
        self.words = page.words[number * work.WORDS : (number + 1) * work.WORDS]
        for index in range(work.WORDS):
            self.words[index] = 0
        self.names: list[str | None] = [None] * NAMES  # that stand there

    def write_name(self, number: int, name: str) -> None:
        """Say what a task is called, for who looks from outside."""
        self.names[number % NAMES] = name
        at = work.find_name(self.number, number)
        self.page.memory[at : at + NAME] = name.encode("utf-8", "replace")[: NAME - 1].ljust(NAME, b"\0")

    def give_back(self) -> None:
        """Let another worker have it. This one is dead. What it has said last can still be read here."""
        if self.number >= 0:
            words, self.words = self.words, memoryview(bytearray(self.words)).cast("Q")
            words.release()
            self.page.free.append(self.number)
            self.number = -1
            if self.page.closing:
                self.page.close()


class Page:
    """One page of lines."""

    def __init__(self) -> None:
        """Raises OSError."""
        self.fd = fds.Fd(state.move_high(memfds.make_memory("warmfork-page", size=SIZE)))
        self.memory = mmap(self.fd.fileno(), SIZE, MAP_SHARED, PROT_READ | PROT_WRITE)
        self.words = memoryview(self.memory)[: work.PAGE].cast("Q")
        self.free = list(range(LINES))
        self.closing = False

    def close(self) -> None:
        """Let go of the memory when all lines are given back: a worker may be on its way yet."""
        self.closing = True
        if len(self.free) == LINES and self.fd:
            self.fd.close()
            self.words.release()
            self.memory.close()


class Pages:
    """All pages of an executor: mostly one."""

    def __init__(self) -> None:
        self.pages: list[Page] = [Page()]
        self.closing = False

    def take(self) -> Line:
        """Give a line that is nobody's. Raises OSError."""
        for page in self.pages:
            try:
                return Line(page, page.free.pop())
            except (IndexError, ValueError):  # full; or closed
                continue
        self.pages.append(Page())
        self.pages[-1].closing = self.closing
        return self.take()

    def close(self) -> None:
        """Let go of the memory."""
        self.closing = True
        for page in self.pages:
            page.close()
