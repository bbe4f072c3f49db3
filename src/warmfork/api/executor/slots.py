"""A worker as the program sees it: its fds, its page, and the tasks that it was handed."""

from __future__ import annotations

import os
from _struct import pack
from time import monotonic, sleep

from warmfork._machine import fds, memfds, pids, sockets, state
from warmfork._machine.pending_kills import list_children
from warmfork._tasks import barrier, work
from warmfork._tasks.work import CLAIMED, CONFIRMED, REVOKED, RUNNER, SINCE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from warmfork._client.handle import Child
    from warmfork._words.outcome import Outcome
    from warmfork.api.executor.futures import TaskFuture
    from warmfork.api.executor.killing import Killing
    from warmfork.api.executor.logs import Logs
    from warmfork.api.executor.page import Page
    from warmfork.api.limits import Watch

NO_BARRIER = 0.002
"""Seconds after which each processor has seen what another has written, where the kernel gives no barrier: it takes less
than a microsecond."""

LAST_NAME = work.NAMES - 1
"""A mask, for their number is a power of two."""

AHEAD = 2
"""Tasks that one who forks for each is handed at a time: it need not wait for us between two."""

PIPE = 1 << 20
SET_PIPE_SIZE = 1031
"""F_SETPIPE_SZ: so that a worker need not wait while results are not read."""


class Slot:
    """A worker. `tasks` has what it was handed and has not answered, by number, in this order."""

    def __init__(self, page: Page, forks: bool) -> None:
        """Make what it and the program share. Raises OSError, the page closed."""
        self.page = page
        self.forks = forks  # each task has a process of its own, and that is the one to be ended for it
        self.tasks: dict[int, TaskFuture] = {}
        self.sent = 0  # the number of the last task
        self.rest = b""  # of a record that has not come in full
        self.largest = AHEAD if forks else work.MOST_IN_BUNDLE
        self.most = self.largest  # tasks that it is handed at a time: few, while it is slow
        self.ready = False  # its initializer has run
        self.idle = False  # it stands in the list of those that have nothing to do
        self.worn = False  # it is handed nothing more, and leaves after what it runs: see recycling.py
        self.full = False  # its socket took no more: wait for its next word
        self.suspect = False  # somebody was interrupted while it was handed tasks: see settle()
        self.last = False  # it died before it was ready, and no other is tried
        self.told = False  # that it is to leave
        self.dead = False
        self.leaving = False  # it is handed nothing more
        self.left_at: float | None = None  # when it was told to leave
        self.done = 0  # tasks that it has ended
        self.born = monotonic()
        self.killing: Killing | None = None
        self.watch: Watch | None = None
        self.watched = 0  # the number of the task that the watch is for
        self.failure: bytes | None = None  # what its initializer raised
        self.output = -1  # the file that it writes to, with capture_output=True
        self.logs: Logs | None = None  # what reads its log records, with forward_logs=True
        self.child: Child | None = None
        self.pid = 0
        self.outcome: Outcome | None = None
        self.memories: list[fds.Fd] = []  # of large results, whose records follow
        self.socket, theirs = sockets.make_pair()
        self.theirs = [fds.Fd(theirs.detach())]
        self.pipe = -1
        try:
            self.pipe, end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            self.theirs.append(fds.Fd(end))
            os.set_blocking(end, True)
            self.pipe = state.move_high(self.pipe)
            widen(self.pipe)
            self.theirs.append(page.fd)
            high = state.move_high(self.socket.detach())
            self.socket = sockets.adopt_socket(high)
        except BaseException:
            self.close()
            raise

    def capture(self) -> None:
        """Have a file for what it writes. Raises OSError."""
        self.output = state.move_high(memfds.make_memory("warmfork-output"))
        self.theirs.append(fds.Fd(os.dup(self.output)))

    def let_go(self) -> None:
        """The worker has its own copies."""
        for one in self.theirs:
            one.close()
        self.theirs.clear()

    def close(self) -> None:
        """Let go of all."""
        self.let_go()
        self.socket.close()
        for memory in self.memories:
            memory.close()
        for fd in (self.pipe, self.output):
            if fd >= 0:
                os.close(fd)
        self.pipe = self.output = -1
        self.page.close()
        if self.logs is not None:
            self.logs.close()
        if self.child is not None:
            self.child.close()

    # -- handing out

    def is_usable(self) -> bool:
        """May it be handed tasks?"""
        return self.ready and not (self.full or self.worn or self.is_ending())

    def is_ending(self) -> bool:
        """Will it soon be dead, or the process of its task?"""
        return self.leaving or self.dead or self.killing is not None

    def send(self, tasks: list[TaskFuture]) -> bool:
        """Hand it tasks: small ones together, a large one or a slice of a map() alone. False: it has no room for them, and
        they are as before.

        Who holds the executor's lock calls it. One whom ^C interrupts in here leaves a slot that is `suspect`.
        """
        number = first = self.sent + 1
        self.suspect = True
        parts = []
        sizes = []
        names = self.page.names
        for task in tasks:
            name = task._name
            if names[number & LAST_NAME] is not name:  # mostly the same function's
                self.page.write_name(number, name)
            data = task._call
            self.tasks[number] = task
            task._slot, task._number = self, number
            sizes.append(len(data))
            parts.append(data)
            number += 1
        self.sent = number - 1
        one = tasks[0]
        try:
            if one._call_memory is not None or one._shared:
                kind = work.SLICE if one._start >= 0 else work.BUNDLE
                passed = [each.fileno() for each in one._shared]
                content = parts[0]
                if one._call_memory is not None:
                    kind |= work.SPILLED
                    passed.insert(0, one._call_memory.fileno())
                    content = work.MEMORY.pack(*one._measures)
                head = work.TASKS.pack(first, 1, kind | (work.SHARED if one._shared else 0), max(0, one._start))
                if kind & work.SLICE == 0:
                    head += pack("<I", len(content))
                sockets.send(self.socket, head + content, tuple(passed))
            elif one._start >= 0:
                self.socket.send(work.TASKS.pack(first, 1, work.SLICE, one._start) + parts[0], sockets.NEVER_BLOCK)
            else:
                head = work.TASKS.pack(first, len(parts), work.BUNDLE, 0) + pack(f"<{len(sizes)}I", *sizes)
                self.socket.send(head + b"".join(parts), sockets.NEVER_BLOCK)
        except OSError:
            # It is behind, or dead, of which its pidfd tells.
            for task in tasks:
                self.tasks.pop(task._number, None)
                task._slot = None
            self.sent = first - 1
            self.full = True
            self.suspect = False
            return False
        self.suspect = False
        return True

    def count_waiting(self) -> int:
        """Count the tasks that it was handed and has not begun with: its own word, which is newer than its results."""
        return int(self.sent - self.page.words[CLAIMED])

    # -- what the page says

    def has_started(self, number: int) -> bool:
        """Is this the task that it runs, or ran last?"""
        return number in self.tasks and bool(self.page.words[CONFIRMED] == number)

    def get_running(self) -> int:
        """Give the number of the task that it runs; 0 for none."""
        number = int(self.page.words[CONFIRMED])
        return number if number in self.tasks and number == self.page.words[CLAIMED] else 0

    def open_runner(self) -> tuple[int, fds.Fd] | None:
        """Give pid and pidfd of the process that runs its task. None: there is none, yet or any longer.

        The page is that process's to write on as well, and it may have fewer rights than we have: so the kernel says which
        is a child of the worker, which has one at a time."""
        for pid in (int(self.page.words[RUNNER]), *list_children(self.pid)):
            try:
                pidfd = fds.Fd(state.move_high(pids.open_pidfd(pid)))
            except (OSError, OverflowError):
                continue
            if pids.read_stat(pid)[1:2] == [b"%d" % self.pid]:
                return pid, pidfd
            pidfd.close()
        return None

    def forget_killing(self, number: int) -> None:
        """The process of this task is dead. If another's is being ended by now, or we are, that goes on."""
        if self.killing is not None and self.killing.number == number:
            self.killing = None

    def get_since(self) -> float:
        """Give when the task that it runs was begun, by monotonic()."""
        return float(self.page.words[SINCE] / 1e9)

    def take_back(self) -> list[TaskFuture]:
        """Take back all that it has not begun with: the tasks are ours again, and it will not start them.

        What is left in `tasks` is the one that it runs, or looks at in this very moment; its word, or its death, tells. Who
        holds the executor's lock calls it.
        """
        self.page.words[REVOKED] = self.sent
        if not barrier.issue():
            sleep(NO_BARRIER)
        claimed = self.page.words[CLAIMED]
        back = []
        for number in [number for number in self.tasks if number > claimed]:
            task = self.tasks.pop(number)
            task._slot = None
            back.append(task)
        return back

    def settle(self) -> list[TaskFuture]:
        """It is dead, and its pipe is read to the end: give what it has never started. What is left in `tasks` is the one
        that it died of."""
        claimed, confirmed = self.page.words[CLAIMED], self.page.words[CONFIRMED]
        back = []
        for number in list(self.tasks):
            if number != claimed or number != confirmed:
                task = self.tasks.pop(number)
                task._slot = None
                back.append(task)
        return back


def widen(pipe: int) -> None:
    """Make a pipe as large as an unprivileged process may. One that stays small is slower, and no worse."""
    from contextlib import suppress
    from fcntl import fcntl

    with suppress(OSError):
        fcntl(pipe, SET_PIPE_SIZE, PIPE)
