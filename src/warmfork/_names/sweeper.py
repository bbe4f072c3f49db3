"""A process of the tracker's own that removes names for it: a file system may hang, a folder have a million files, and
the tracker's loop waits for nothing."""

from __future__ import annotations

import os
from time import monotonic

from warmfork._machine import fds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from warmfork._machine.loop import Loop

DEADLINE = 60.0
"""Seconds after which a sweeper is killed: what it waits for does not come."""


class Job:
    """A sweeper that runs."""

    __slots__ = ("done", "due", "pid", "pipe", "said")

    def __init__(self, pid: int, pipe: fds.Fd, done: Callable[[list[str]], None]) -> None:
        self.pid, self.pipe, self.done = pid, pipe, done
        self.due = monotonic() + DEADLINE
        self.said = b""


class Sweeper:
    """Starts them, and hears what they say."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.jobs: dict[int, Job] = {}  # by pid

    def run(self, work: Callable[[], list[str]], kept: list[int], done: Callable[[list[str]], None]) -> None:
        """Do this in a process that has these fds, and none else of ours; then hand what it gave, a few texts, to `done`.
        Where it did not come to its end, they are none. Raises OSError where there can be no process."""
        reader, writer = map(fds.Fd, os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK))
        with writer:
            with reader:
                pid = os.fork()
                if pid == 0:
                    be_sweeper(work, kept, writer.fileno())
                job = Job(pid, fds.Fd(reader.release()), done)
        self.jobs[pid] = job
        self.loop.watch(job.pipe.fileno(), lambda _events: self.hear(job))

    def hear(self, job: Job) -> None:
        """Hear a part of what it says, or its end."""
        try:
            part = os.read(job.pipe.fileno(), 65_536)
        except BlockingIOError:
            return
        job.said += part
        if part:
            return
        self.loop.forget(job.pipe.fileno())
        job.pipe.close()
        said = job.said.decode("utf-8", "surrogateescape").split("\0")
        job.done(said[:-1] if said[-1:] == ["."] else [])

    def forget(self, pid: int) -> bool:
        """A child is dead: was it a sweeper?"""
        return self.jobs.pop(pid, None) is not None

    def get_due(self) -> float | None:
        """Give when the next is to be killed, by monotonic(), or None."""
        return min([job.due for job in self.jobs.values()], default=None)

    def kill_late(self) -> None:
        """Kill those that hang. They are not reaped yet, so their pids are their own."""
        now = monotonic()
        for job in self.jobs.values():
            if job.due <= now:
                job.due = now + DEADLINE
                os.kill(job.pid, 9)


def be_sweeper(work: Callable[[], list[str]], kept: list[int], pipe: int) -> None:
    """Do the work, say what came of it, and end."""
    code = 1
    try:
        fds.close_all_but(tuple(sorted({*kept, pipe})))
        os.set_blocking(pipe, True)
        said = "".join(f"{text}\0" for text in work()) + "."
        rest = said.encode("utf-8", "surrogateescape")
        while rest:
            rest = rest[os.write(pipe, rest) :]
        code = 0
    finally:
        os._exit(code)
