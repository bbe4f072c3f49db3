"""The fds that travel with a process object: what stands for one in a pickle, and those that came."""

from __future__ import annotations

inherited: list[int] = []
"""In a child: the fds that came with its process object."""


class InheritedFd:
    """Stands for an fd in a pickle, by its place among those that were sent along."""

    def __init__(self, index: int) -> None:
        self.index = index

    def detach(self) -> int:
        """Give the fd, in the child."""
        return inherited[self.index]
