"""Memory that an executor shares with one worker: no other process has it, so none writes a word for another."""

from __future__ import annotations

from mmap import MAP_SHARED, PROT_READ, PROT_WRITE, mmap

from warmfork._machine import fds, memfds, state
from warmfork._tasks import work
from warmfork._tasks.work import NAME, NAMES


class Page:
    """The page of one worker: words of 64 bits (see _tasks/work.py), then the names of its tasks."""

    __slots__ = ("fd", "memory", "names", "words")

    def __init__(self) -> None:
        """Raises OSError. `fd` is the worker's, and to be closed when it has its copy: the mapping has one of its own."""
        with state.LiftedFileLimit():
            self.fd = fds.Fd(memfds.make_memory("warmfork-page", size=work.PAGE_SIZE))
        self.memory = mmap(self.fd.fileno(), work.PAGE_SIZE, MAP_SHARED, PROT_READ | PROT_WRITE)
        self.words = memoryview(self.memory)[: work.WORDS_SIZE].cast("Q")
        self.names: list[str | None] = [None] * NAMES  # that stand there

    def write_name(self, number: int, name: str) -> None:
        """Say what a task is called, for who looks from outside."""
        self.names[number % NAMES] = name
        at = work.find_name(number)
        self.memory[at : at + NAME] = name.encode("utf-8", "replace")[: NAME - 1].ljust(NAME, b"\0")

    def close(self) -> None:
        """Let go of the memory. The worker is dead, and what it has said last can still be read here."""
        if not self.memory.closed:
            words, self.words = self.words, memoryview(bytearray(self.words)).cast("Q")
            words.release()
            self.memory.close()
            self.fd.close()
