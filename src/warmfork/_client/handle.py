"""The handle: a client's object for one child. Its sentinel is a pidfd, its outcome a fact."""

from __future__ import annotations

import sys
from _thread import RLock
from time import clock_gettime_ns, monotonic

from warmfork._client import launch, waiting
from warmfork._client.link import Link
from warmfork._machine import fds, pids, sockets
from warmfork._words import messages
from warmfork._words.errors import ChildError, RemoteTraceback, StartError
from warmfork._words.generic import Generic
from warmfork._words.outcome import Exited, Lost, Signaled, Usage, read_status
from warmfork._words.times import check_seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO, Any, Self

    from typing_extensions import TypeVar

    from warmfork._client.channel import Channel
    from warmfork._client.feeding import StartRequest
    from warmfork._words.children import Answer, Record

    T_co = TypeVar("T_co", covariant=True, default=Any)

SIGKILL = 9
EMFILE = 24
LEAVE_TIMEOUT = 1.0
"""Seconds for a child that was never given a call to leave by itself, before it is ended."""

BOOTTIME = 7
"""CLOCK_BOOTTIME, in which the kernel tells when a process was started."""

ANSWER_TIMEOUT = 2.0
"""Seconds that a living template has to tell the status of children that are dead already, before others are asked."""

REAP_TIMEOUT = 1.0
"""Seconds for whoever is the parent of an orphan, PID 1 mostly, to reap it."""

USAGE_TIMEOUT = 0.25
"""Seconds that the tracker has to tell the resource usage of a child whose status is known; and that a template has to
tell of one that it has reaped."""


class Child(Generic["T_co"]):
    """A process that was started: what `Template.start()` and `get_child()` give.

    As a context manager it closes the handle at the end of the block. The process runs on: wait() for it, or kill() it.
    """

    _identity = (0, 0)  # of its pidfd: __del__ asks for it, too, where a signal handler raises before it is known

    def __init__(self, channel: Any, record: Any, passed: list[int], order: Any) -> None:  # Any: not for users to make
        self._link = Link(record.pid, order.replies)  # first: __del__ asks for it
        self.pid: int = record.pid
        self.name: str = order.name
        self.usage: Usage | None = None
        self.stdin: IO[bytes] | None = None  # our ends of the pipes that start() was asked for
        self.stdout: IO[bytes] | None = None
        self.stderr: IO[bytes] | None = None
        self._lived_ns = clock_gettime_ns(BOOTTIME)  # when it lived: with the pid, that says which process it is
        self._channel: Channel = channel
        self._record: Record = record
        self._identity = fds.identify(passed[0])
        self._replies: bool = order.replies
        self._sent: set[int] = set()  # signals
        self._outcome: Exited | Signaled | Lost | None = None
        self._result: tuple[Any, BaseException | None] | None = None
        self._settling = RLock()  # two threads may wait, and the first close the handle while the other still asks
        self._owners: set[Child] | None = None
        # The fds are taken over without a call in between, at which a signal handler could come and raise: at any
        # moment they have one owner, who closes them.
        link = self._link
        link.pidfd.number, passed[:] = passed[0], passed[1:]
        feed, passed[:] = passed[0], ()
        link.feed = sockets.socket(*sockets.KIND, feed)
        sockets.make_patient(link.feed)

    @classmethod
    def _from_answer(cls, channel: Channel, answer: Answer, order: StartRequest) -> Self:
        """Make the handle of the child that an answer brought. Raises StartError where this process has too many files
        open for what belongs to it."""
        if answer.record is None or len(answer.fds) != 2:
            raise StartError("recvmsg", "the fds of a child did not arrive: Too many open files", EMFILE)
        return cls(channel, answer.record, answer.fds, order)

    def __repr__(self) -> str:
        return f"<Child {self.name} pid={self.pid} {self._outcome or 'running'}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """Give an fd that becomes readable when the child is dead. Raises ValueError after close()."""
        return self._link.fileno()

    # -- its end

    @property
    def outcome(self) -> Exited | Signaled | Lost | None:
        """What became of the child, or None while it lives. Never blocks for longer than telling takes."""
        pidfd = self._link.pidfd.fileno()
        if self._outcome is None and pidfd >= 0 and fds.wait_readable(pidfd, 0):
            self._settle()
        return self._outcome

    def is_running(self) -> bool:
        """Does the child live, and is this handle open? Asks for no outcome: that is up to whoever waits, maybe at this
        moment and in another thread."""
        pidfd = self._link.pidfd.fileno()
        return self._outcome is None and pidfd >= 0 and not fds.wait_readable(pidfd, 0)

    def wait(self, timeout: float | None = None) -> Exited | Signaled | Lost:
        """Wait until the child is dead, and give its outcome.

        `timeout` is in seconds; None waits for ever, 0 asks. Raises TimeoutError where it still lives then, ValueError
        where the handle was closed before anybody knew.
        """
        check_seconds("timeout", timeout)
        pidfd = self._link.pidfd.fileno()
        if self._outcome is None and pidfd >= 0:
            if not waiting.wait_readable((pidfd,), timeout):
                raise TimeoutError(f"{self.name} (pid {self.pid}) still runs after {timeout} s")
            self._settle()
        if self._outcome is None:
            raise ValueError("this handle is closed")
        return self._outcome

    def _settle(self) -> None:
        """The child is dead: learn how, once, whoever asks."""
        with self._settling:
            if self._outcome is not None or not self._link.pidfd:
                return
            outcome = self._outcome = self._learn_outcome()
            if not self._replies:
                self._link.read()
                self._link.close()
        if self._owners is not None:
            self._owners.discard(self)
        # Outside of the lock: a log handler of the program's may ask for anything.
        if isinstance(outcome, Signaled) and outcome.signal not in self._sent:
            log_death(self, outcome)

    def _learn_outcome(self) -> Exited | Signaled | Lost:
        """Learn how the child ended. The order of the sources is that of M4."""
        record, channel = self._record, self._channel
        deadline = channel.give_answer_time(ANSWER_TIMEOUT)
        channel.wait_until(lambda: record.exited is not None, deadline)
        fate: messages.Exited | messages.Fate | None = record.exited
        if fate is None and channel.dead:
            fate = self._ask_tracker()
        if fate is not None:
            seconds = max(0, fate.ended_us - self._link.fed_us) / 1e6 if self._link.fed_us else None
            self.usage = Usage(fate.user_us / 1e6, fate.system_us / 1e6, fate.peak_kib * 1024, seconds)
            evidence = record.evidence if isinstance(fate, messages.Exited) else fate
            stack, why = (evidence.stack, evidence.why) if evidence is not None else ("", "")
            return read_status(fate.status, stack, self._explain(fate.status, why))
        # The kernel tells once somebody has reaped the child; or before, where we may look.
        status = pids.find_status(self._link.pidfd.fileno(), REAP_TIMEOUT)
        if (
            status is None
            and not channel.dead
            and channel.wait_until(lambda: record.exited is not None, monotonic() + USAGE_TIMEOUT)
        ):
            return self._learn_outcome()  # told meanwhile
        if status is None:
            return Lost("its template died before it could tell")
        return read_status(status, "", self._explain(status, ""))

    def _explain(self, status: int, why: str) -> str:
        """Say what is known of a SIGKILL."""
        if status & 0x7F != SIGKILL or SIGKILL in self._sent:
            return ""
        if self._record.stuck:
            return f'it hung while it was set up, in the step "{self._record.stuck}", and its template killed it'
        return why or "not sent by us: by another process, or by the kernel"

    def _ask_tracker(self) -> messages.Fate | None:
        """Ask the tracker, whose child ours is since its template died."""
        from warmfork._client.client import get_client

        if self._channel.template >= 0:
            # Its channel ends a moment before its children get their new parent; when its pidfd fires, they have.
            fds.wait_readable(self._channel.template, ANSWER_TIMEOUT)
        client = get_client()
        if client.door is None or (client.tree is not None and not client.tree.has_tracker()):
            return None  # it died too, and its successor will not be the parent of what it left
        # What the kernel can tell is as true, so the tracker is waited for only as long as the usage is worth, which it
        # alone knows: it may be dead without our seeing it.
        told = pids.ask_status(self._link.pidfd.fileno()) is not None
        return launch.ask_fate(client.door, self.pid, self._lived_ns, USAGE_TIMEOUT if told else ANSWER_TIMEOUT)

    # -- signals

    def send_signal(self, number: int) -> None:
        """Send a signal to the child, never to a later process with its pid. A dead child takes none, silently. Raises
        PermissionError where the child has become another user."""
        if self._outcome is None:
            new = number not in self._sent
            self._sent.add(number)
            try:
                pids.send_signal(self.fileno(), number)
            except OSError:
                if new:
                    self._sent.discard(number)
                raise

    def terminate(self) -> None:
        """Ask the child to end (SIGTERM)."""
        self.send_signal(15)

    def kill(self) -> None:
        """End the child (SIGKILL)."""
        self.send_signal(SIGKILL)

    # -- what it returned

    def result(self, timeout: float | None = None) -> T_co:
        """Give what the function returned, or raise what it raised: the same object at each call. The exception's
        `__cause__` is the text of its traceback in the child.

        `timeout` is in seconds; None waits for ever, 0 asks. Raises TimeoutError where the child still runs then, and
        ChildError where it ended without a result: it was killed, left by sys.exit(), or could not become what was asked.
        """
        check_seconds("timeout", timeout)
        if self._result is None:
            found = self._take_result(timeout)
            with self._settling:
                if self._result is None:
                    self._result = found
        value: T_co
        value, error = self._result
        if error is not None:
            try:
                raise error.with_traceback(None)
            finally:
                del error
        return value

    def _take_result(self, timeout: float | None) -> tuple[Any, BaseException | None]:
        """Wait for the result, and give it, or the exception to raise. Raises TimeoutError."""
        link = self._link
        deadline = None if timeout is None else monotonic() + timeout
        while link.state != "ended":
            feed = link.feed
            number = feed.fileno() if feed is not None else -1
            if number < 0:
                break
            rest = None if deadline is None else deadline - monotonic()
            if not waiting.wait_readable((number, link.pidfd.fileno()), rest):
                raise TimeoutError(f"{self.name} (pid {self.pid}) still runs after {timeout} s")
            link.read()
            if link.state != "ended" and fds.wait_readable(link.pidfd.fileno(), 0):
                link.read()
                break
        outcome = self.wait(None if deadline is None else max(0.0, deadline - monotonic()))
        with self._settling:  # what was sent can be unpickled once
            if self._result is not None:
                return self._result
            link.close()
            last = link.words[-1] if link.words else None
            if isinstance(last, messages.Returned):
                self._result = link.unpickle(last), None
            elif isinstance(last, messages.Raised):
                self._result = None, self._rebuild(last, outcome)
            else:
                detail = last.traceback if isinstance(last, messages.BirthFailed) else getattr(outcome, "stack", "")
                self._result = None, ChildError(self.name, outcome, detail)
            return self._result

    def _rebuild(self, message: messages.Raised, outcome: Exited | Signaled | Lost) -> BaseException:
        """Rebuild the child's exception, its traceback attached."""
        if not message.size:
            return ChildError(self.name, outcome, message.text)
        try:
            error = self._link.unpickle(message)
        except Exception as refusal:
            return ChildError(self.name, outcome, f"{message.text}\n(it could not be unpickled here: {refusal!r})")
        if not isinstance(error, BaseException):
            return ChildError(self.name, outcome, message.text)
        remote = RemoteTraceback(f"In {self.name} (pid {self.pid}):\n{message.text}")
        # The text has it all; the child's own chain can be had here, and is not printed a second time.
        remote.__context__, remote.__suppress_context__ = error.__cause__ or error.__context__, True
        error.__cause__ = remote
        return error

    # -- letting go

    def close(self) -> None:
        """Close the handle. The child runs on."""
        self._link.close()
        self._link.close_pidfd(self._identity)

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        link: Link | None = getattr(self, "_link", None)
        if is_finalizing():
            return  # the names of our modules may be gone, and all files are closed in a moment
        if link is not None and link.births is None:
            self.close()
        elif link is not None:
            # It may not have become what was asked yet, and needs its socket and what is kept for it until then.
            link.close_pidfd(self._identity)


def send_away(children: list[Child]) -> None:
    """Send away children that were not given their calls: they leave when their sockets are closed; one that is stopped,
    or whose socket somebody else has too, is ended after a second, one for all. Closes their handles."""
    for child in children:
        child._link.close()
    for end in (lambda child: None, Child.kill):
        deadline = monotonic() + LEAVE_TIMEOUT
        for child in children:
            if child.is_running():
                end(child)
        for child in children:
            if child.is_running():
                fds.wait_readable(child.fileno(), max(0.0, deadline - monotonic()))
    for child in children:
        child.outcome  # noqa: B018  # learnt now, if it is dead
        child.close()


def log_death(child: Child, outcome: Signaled) -> None:
    """Log a death by a signal that this process has not sent, with the child's Python stack where there is one."""
    from logging import getLogger

    stack = f"\n{outcome.stack.rstrip()}" if outcome.stack else ""
    getLogger("warmfork").error("%s (pid %d) was %s%s", child.name, child.pid, outcome, stack)


Child.__module__ = "warmfork"
