"""The entry of a worker that runs no task itself: it forks for each, and tells how that process ended.

What is costly in a birth (state, fds, limits) was done once, at its own; its forks run side by side with those of other
forkers, on processors of their own. It claims a task, looks whether it was taken back, and confirms it, as worker.py says;
the fork then unpickles, calls, writes what it gives to the same pipe, and leaves.
"""

from __future__ import annotations

import os
import sys
from _pickle import loads
from time import monotonic, sleep

from warmfork._child import ending, reseeding, stdio
from warmfork._machine import calls, fds, pids, stacks, titles
from warmfork._tasks import work
from warmfork._tasks import worker as worker_
from warmfork._tasks.work import RUNNER
from warmfork._tasks.worker import Worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from warmfork._child.birth import Birth

DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG (linux/prctl.h)."""

SIGINT, SIGKILL = 2, 9


class Forker(Worker):
    """A worker that has a process of its own for each task."""

    def __init__(self, birth: Birth, settings: dict[str, Any]) -> None:
        super().__init__(birth, settings)
        self.birth = birth
        self.initializer: memoryview = memoryview(b"")
        self.files, self.arrived = self.arrived, []  # of shared memory: the initializer's, which each fork reads
        self.pid = os.getpid()

    def initialize(self, rest: memoryview) -> bool:
        """The initializer is run in each task's process, and never in one that forks."""
        self.initializer = memoryview(bytes(rest))
        self.tell(0, work.READY, b"")
        return True

    def run_task(self, number: int, content: Any, memory: int | None, start: int) -> None:
        """Fork a process for a task, and wait for its end."""
        refusal: OSError | None = None
        pid = -1
        try:
            pid = fork()
        except OSError as error:
            refusal = error
        if pid == 0:
            self.run_in_fork(number, content, memory, start)
        if memory is not None:
            os.close(memory)
        if self.arrived:
            fds.close_all(self.arrived)
            self.arrived = []
        if refusal is not None:
            self.tell_error(number, work.RAISED, refusal)
            return
        self.page[RUNNER] = pid
        # Seen and not reaped: the pid is nobody else's, until we have said that it runs no longer.
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        self.page[RUNNER] = 0
        _, status = os.waitpid(pid, 0)
        stack = read_stack(pid) if status & 0x7F in stacks.FATAL else ""
        self.end_leftovers()
        self.own = pid
        self.tell(number, work.ENDED, work.pack_end(status, stack))
        self.own = 0

    def end_leftovers(self) -> None:
        """End what the task has started and left behind: it is ours now. And reap who took over its memory."""
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            return
        from warmfork._tasks import tree

        tree.end_descendants()

    def run_in_fork(self, number: int, content: Any, memory: int | None, start: int) -> NoReturn:
        """Be the process of one task."""
        code = 0
        try:
            # If we lose the forker, nobody knows of us any longer. It has one thread, so it is its death that counts.
            calls.call("prctl", DIE_WITH_PARENT, SIGKILL, 0, 0, 0)
            if os.getppid() != self.pid:
                os._exit(0)
            self.own = os.getpid()
            pids.become_subreaper()
            os.setsid()
            reseeding.reseed()
            titles.set_title(f"warmfork: task {number} of {self.birth.state['name']} {self.birth.spec.name}")
            if self.begin(number):
                super().run_task(number, content, memory, start)
            ending.run_exit_handlers()
        except KeyboardInterrupt:
            code = 128 + SIGINT
        except BrokenPipeError:
            code = 0  # the program is gone
        except BaseException:
            code = 1
            sys.excepthook(*sys.exc_info())
        finally:
            stdio.flush()
            os._exit(code)

    def begin(self, number: int) -> bool:
        """Call the initializer, if there is one. What it raises is the task's error."""
        try:
            if self.initializer:
                arrived, self.arrived = self.arrived, self.files
                function, args = self.unpickle(self.initializer) if self.files else loads(self.initializer)
                self.arrived = arrived
                function(*args)
        except BaseException as error:
            self.tell_error(number, work.RAISED, error)
            return False
        return True


def fork() -> int:
    """Fork, and try that again for a while where the kernel has no process or no memory left. Raises OSError."""
    until = monotonic() + PATIENCE
    while True:
        try:
            return os.fork()
        except OSError as error:
            if monotonic() >= until:
                error.add_note("no process could be forked for this task, which was not begun")
                raise
        sleep(PAUSE)


PATIENCE, PAUSE = 1.0, 0.01
"""Seconds until a fork that fails is told, and between two tries."""


def read_stack(pid: int) -> str:
    """Give the stack that a fault left of one of our forks, or ""."""
    if stacks._fd < 0:
        return ""
    try:
        fd = os.open(f"/proc/self/fd/{stacks._fd}", os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # no /proc, no fds
        return ""
    try:
        return stacks.read(fd, pid)
    finally:
        os.close(fd)


def run(birth: Birth) -> int:
    """Be a forker. Gives the exit code."""
    return worker_.run(birth, Forker)
