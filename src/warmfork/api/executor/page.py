"""Memory that an executor and its workers share: a line of 64 bytes for each worker, so that none disturbs another's."""

from __future__ import annotations

from mmap import MAP_SHARED, PAGESIZE, PROT_READ, PROT_WRITE, mmap

from warmfork._machine import fds, memfds, state
from warmfork._words import work

LINES = PAGESIZE // work.LINE


class Line:
    """The line of one worker: words of 64 bits (see _words/work.py)."""

    __slots__ = ("number", "page", "words")

    def __init__(self, page: Page, number: int) -> None:
        self.page, self.number = page, number
        self.words = page.words[number * work.WORDS : (number + 1) * work.WORDS]
        for index in range(work.WORDS):
            self.words[index] = 0

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
        with state.LiftedFileLimit():
            self.fd = fds.Fd(state.move_high(memfds.make_memory("warmfork-page", size=PAGESIZE)))
        self.memory = mmap(self.fd.fileno(), PAGESIZE, MAP_SHARED, PROT_READ | PROT_WRITE)
        self.words = memoryview(self.memory).cast("Q")
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
