"""A client's channel to one template: requests out, answers in, shared by the client's threads without one of its own.

Whoever waits reads for all: the first waiter leads (it polls and reads), the others sleep until it has read something,
then look again, and one of them leads next. A thread of ours would make the user's os.fork() warn.
"""

from __future__ import annotations

import os
import sys
from _thread import RLock, allocate_lock, get_ident
from select import POLLIN, poll
from time import monotonic

from warmfork._client.fd_list import Owned
from warmfork._machine import fds, rights, role, sockets, state, wanted
from warmfork._words import messages, protocol, wire
from warmfork._words.children import Answer, Children
from warmfork._words.errors import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Callable
    from typing import Any

GIVE_UP_TIMEOUT = 1.0

LONGEST_NAME = 1000
"""Bytes of a child's name that the template hears of. The child itself has all of it."""

LEADER_RECHECK = 0.02
"""Seconds after which a leader looks again: a signal handler may have read what it waits for. Answers come in 1 ms."""

WAITER_RECHECK = 1.0
"""Seconds after which a sleeper looks again by itself: nobody may have been left to wake it."""


class Channel:
    """An open conversation with a template."""

    def __init__(self, socket: sockets.socket, allowed: tuple[Any, ...] = ()) -> None:
        self.socket = socket
        self.allowed = allowed  # what this process might do when it said hello
        self.identity = fds.identify(socket.fileno())
        self.state = "open"
        self.last: messages.Message | None = None  # the Welcome, or the message that ended it
        self.template = -1  # pidfd
        self.board = fds.Fd(-1)  # the template's, to be read: for a successor of the tracker
        self.name = ""  # of the template
        self.succession = 0  # which of our trackers was told of it
        self.waiting = 0  # threads that wait for the Welcome
        self.pid = 0
        self.generation = 0
        self.born = state.Baseline(None, [], [], (0, 0))
        self.children = Children(Owned)
        self.unread: list[Any] = []  # messages as they came
        self.requests = 0
        self.modules = 0  # how many were loaded at the last look
        self.told: frozenset[str] = frozenset()  # what the template has heard that we have loaded
        self.silent_since: float | None = None  # since when a death is asked for, and the template has said nothing
        self.lock = RLock()  # a signal handler may start a process, or ask for an outcome, while we hold it
        self.leader = 0  # the thread that reads
        self.waiters: list[LockType] = []
        self.dead = False
        self.poller = self.make_poller()

    def check_rights(self) -> None:
        """Raise Refused where this process may not do what it might when its template took it on (row 6, M6)."""
        now = rights.take()
        if now != self.allowed:
            raise Refused(rights.find_difference(now, self.allowed))

    def take_number(self) -> int:
        """Give the number of a request that is about to be made."""
        with self.lock:
            self.requests += 1
            return self.requests

    def request(self, number: int, kill: bool, name: str) -> bool:
        """Ask for a child. False where the template is gone. Raises OSError."""
        data = wire.encode(messages.Spawn(number, int(kill), wire.fit(name, LONGEST_NAME)))
        # Not before it can be on its way: who is interrupted before that has nothing to wait for (give_up).
        self.children.expect(number)
        try:
            sockets.send_within(self.socket, data)
        except OSError as refusal:
            # It is dead, or another thread saw that first and has closed the channel.
            if not self.dead and not isinstance(refusal, ConnectionError):
                raise
            self.end()
            return False
        return True

    def take_spare(self) -> Answer | None:
        """Give a child that was forked ahead for this process, if one is at hand."""
        with self.lock:
            spare = self.children.take_spare()
        if spare is None:
            self.catch_up()
            with self.lock:
                spare = self.children.take_spare()
        return spare

    def return_spare(self, spare: Answer) -> None:
        """Give back a spare to which nothing was sent."""
        with self.lock:
            self.children.spares.insert(0, spare)

    def drop_spares(self) -> None:
        """Let the spares go: they leave when their feed ends."""
        with self.lock:
            spares, self.children.spares = self.children.spares, []
            for spare in spares:
                if spare.record is not None:
                    self.children.living.pop(spare.record.pid, None)

    def tell_spare_taken(self, pid: int, kill: bool, name: str) -> None:
        """Tell the template that a spare is a child now."""
        self.tell(messages.SpareTaken(pid, int(kill), wire.fit(name, LONGEST_NAME)))

    def tell_wanted(self) -> None:
        """Tell the template what this process has loaded that its children will want, if that is more than before."""
        if len(sys.modules) == self.modules:
            return
        self.modules = len(sys.modules)
        new = set(wanted.list_had(role.kind == role.CHILD)) - self.told
        if new:
            self.told |= new
            self.tell(messages.Wanted(tuple(sorted(new))))

    def tell(self, message: messages.Message) -> None:
        """Tell the template something that has no answer. Where it is gone nobody needs to know: whoever starts something
        is told so."""
        try:
            sockets.send_within(self.socket, wire.encode(message))
        except OSError:
            return

    def wait_answer(self, request: int, deadline: float | None) -> Answer | None:
        """Wait for the answer to a request. None where the template died, or the deadline passed, without one."""
        answers = self.children.answers
        self.wait_until(lambda: request in answers, deadline)
        with self.lock:
            return answers.pop(request, None)

    def give_up(self, request: int) -> None:
        """Forget a request that may be on its way, and wait for its child a moment, to send it away at once."""
        waiting = self.children.waiting
        self.wait_until(lambda: request not in waiting, monotonic() + GIVE_UP_TIMEOUT)
        self.forget_request(request)

    def forget_request(self, request: int) -> None:
        """Nobody waits for this answer any longer, be it here or still to come: its child is sent away."""
        with self.lock:
            self.children.waiting.discard(request)
            self.children.answers.pop(request, None)

    def give_answer_time(self, seconds: float) -> float:
        """Give until when the template has to tell of deaths, by monotonic(): so many seconds from the moment at which
        one was first asked for that it has not said a word since. All who ask share them."""
        self.catch_up()
        with self.lock:
            if self.silent_since is None:
                self.silent_since = monotonic()
            return self.silent_since + seconds

    def wait_until(self, ready: Callable[[], bool], deadline: float | None) -> bool:
        """Read until that is so. False where the channel ended or the deadline passed first."""
        me = get_ident()
        while True:
            lead = False
            above = 0
            try:  # a signal handler may raise at any line from here on, and nobody must lead for ever
                with self.lock:
                    if ready():
                        return True
                    if self.dead:
                        return False
                    above = self.leader
                    lead = above in (0, me)  # ourselves: in a signal handler that came while we lead
                    if lead:
                        self.leader = me
                    else:
                        wakeup = allocate_lock()
                        wakeup.acquire()
                        self.waiters.append(wakeup)
                rest = WAITER_RECHECK if deadline is None else max(0.0, deadline - monotonic())
                if lead:
                    self.read(min(rest, LEADER_RECHECK), above == me)
                else:
                    wakeup.acquire(True, min(rest, WAITER_RECHECK))
            finally:
                if lead:
                    self.leader = above
                    self.wake_sleepers()
            if deadline is not None and rest == 0.0:
                with self.lock:
                    return ready()

    def wake_sleepers(self) -> None:
        """Have those who sleep look again."""
        with self.lock:
            waiters, self.waiters = self.waiters, []
        for sleeper in waiters:
            sleeper.release()

    def catch_up(self) -> None:
        """Read what has come so far, unless somebody is reading."""
        me = get_ident()
        lead = False
        above = 0
        try:
            with self.lock:
                above = self.leader
                if above not in (0, me) or self.dead:
                    return
                lead = True
                self.leader = me
            died = self.template >= 0 and fds.wait_readable(self.template, 0)
            self.read_all()
            if died:
                self.end()
        finally:
            if lead:
                self.leader = above
                self.wake_sleepers()

    def make_poller(self) -> poll:
        """Make what waits for messages, and for the template's death."""
        poller = poll()
        poller.register(self.socket.fileno(), POLLIN)
        if self.template >= 0:
            poller.register(self.template, POLLIN)
        return poller

    def read(self, timeout: float, nested: bool) -> None:
        """Wait for messages up to `timeout` seconds, and read all that are there. `nested`: in a signal handler that came
        while we wait."""
        if self.unread:  # a signal handler raised when that had come
            timeout = 0.0
        poller = self.make_poller() if nested else self.poller
        ready = poller.poll(timeout * 1000)
        if not ready and not self.unread:
            return
        self.read_all()
        if not self.dead and len(ready) == 1 and ready[0][0] == self.template:
            # The template is dead and its last words are read. Its channel need not end: a copy of it may live on in
            # some process that a preload forked (M1).
            self.end()

    def read_all(self) -> None:
        """Read until there is nothing more."""
        while not self.dead and sockets.receive_next(self.unread, self.socket):
            self.take_first()

    def take_first(self) -> None:
        """Enter the first of what was read."""
        item = self.unread[0] if self.unread else None
        if item is None:
            return  # a signal handler has read on
        got = sockets.unpack_received(item)
        if not got.data:
            self.end()
            return
        self.silent_since = None
        try:
            message = wire.decode(got.data)
            after = protocol.step(protocol.CHANNEL, self.state, protocol.DOWN, message)
        except ValueError:
            self.unread.clear()
            got.close()
            self.end()
            raise
        if isinstance(message, messages.Noted):
            del self.unread[0]
            got.close()
            log_note(self.generation, message.text)
        elif after == "served" and not isinstance(message, messages.Welcome):
            with self.lock:
                self.children.take(message, got.fds, self.unread, item)
        else:
            self.state = after
            del self.unread[0]
            with got:
                self.greet(message, got.fds)

    def greet(self, message: messages.Message, passed: list[int]) -> None:
        """Take the first message: a Welcome, with what it takes off the fds that came along; or why there is none."""
        self.last = message
        if isinstance(message, messages.Welcome) and len(passed) != 2:
            self.last = messages.Refused("what it sent did not arrive: raise the limit of open files (ulimit -n)", 0)
            self.end()
        elif isinstance(message, messages.Welcome):
            self.template = state.move_high(passed.pop(0))
            self.board = fds.Fd(state.move_high(passed.pop(0)))
            self.poller.register(self.template, POLLIN)
            self.pid, self.generation = message.pid, message.generation
            environment = state.split_environment(message.environment) if message.environment else None
            self.born.environment = environment
            self.born.cwd = message.cwd_device, message.cwd_inode

    def dup_template(self) -> int:
        """Give a pidfd on the template that outlives this channel, for its end to be waited for. -1 where none is to be
        had: then nobody waits."""
        try:
            return os.dup(self.template) if self.template >= 0 else -1
        except OSError:
            return -1

    def end(self) -> None:
        """The conversation is over."""
        self.dead = True

    def is_ours(self) -> bool:
        """Do our fds still mean what they did? A program may have closed them all, and reused the numbers (M9)."""
        return fds.is_still(self.socket.fileno(), self.identity)

    def forget(self) -> None:
        """The fds are somebody else's by now: never to be used again, and never closed."""
        with self.lock:
            self.dead = True
            for spare in self.children.spares:
                spare.fds.clear()
            self.children.spares.clear()
            self.socket.detach()
            self.board.release()
            self.template = -1

    def drop_after_fork(self) -> None:
        """In a forked copy of this process: let go. Another thread may have held the lock, or led, when it forked, and
        handles of the original's children still come here."""
        self.lock = RLock()
        self.leader, self.waiters = 0, []
        if self.is_ours():
            self.close()
        else:
            self.forget()

    def close(self) -> None:
        """Let go of the channel. Children that live are the tracker's to tell about."""
        if not self.is_ours():
            self.forget()
            return
        with self.lock:
            self.dead = True
        self.drop_spares()
        self.socket.close()
        self.board.close()
        if self.template >= 0:
            os.close(self.template)
            self.template = -1


def log_note(generation: int, note: str) -> None:
    """Log what a template says of itself: a warning, or where there is nothing to be done about it, for whoever asks."""
    from logging import INFO, WARNING, getLogger

    level = INFO if note.startswith(("without ", "one child was forked ")) else WARNING
    getLogger("warmfork").log(level, "template gen=%d: %s", generation, note)
