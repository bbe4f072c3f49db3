"""The handle: a client's object for one child. Its sentinel is a pidfd, its outcome a fact."""

from __future__ import annotations

import os
from _thread import RLock
from time import monotonic

from warmfork._client import launch, results
from warmfork._machine import fds, pids
from warmfork._words import messages, protocol, wire
from warmfork._words.errors import ChildError
from warmfork._words.outcome import Lost, Usage, read_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any

    from warmfork._client.channel import Channel
    from warmfork._client.feeding import StartRequest
    from warmfork._words.children import Answer, Record
    from warmfork._words.outcome import Exited, Signaled

SIGKILL = 9
ANSWER_TIMEOUT = 2.0
"""Seconds that a living template has to tell the status of a child that is dead already, before others are asked."""

REAP_TIMEOUT = 1.0
"""Seconds for whoever is the parent of an orphan, PID 1 mostly, to reap it."""

USAGE_TIMEOUT = 0.25
"""Seconds that the tracker has to tell the resource usage of a child whose status is known."""


class Child:
    """A child of this process. Not to be made by users: `Template.start()` gives it."""

    def __init__(self, channel: Channel, record: Record, passed: list[int], order: StartRequest) -> None:
        self._pidfd = -1  # first: __del__ asks for it
        self._memory = -1
        self.feed: fds.socket | None = None
        self.births: set[Child] | None = None
        self.keep: object = None
        self.pid = record.pid
        self.name = order.name
        self.usage: Usage | None = None
        self.stdin: IO[bytes] | None = None  # our ends of the pipes that start() was asked for
        self.stdout: IO[bytes] | None = None
        self.stderr: IO[bytes] | None = None
        self.fed_us = 0  # when it was handed its call (monotonic)
        self._room: bytes | None = None
        self._channel = channel
        self._record = record
        self._identity = fds.identify(passed[0])
        self._replies = order.replies
        self._killed = False
        self._outcome: Exited | Signaled | Lost | None = None
        self._feed_state = "open"
        self._words: list[messages.Message] = []
        self._reading = RLock()  # any thread's start() may read what this child says, see Client.tidy()
        self._unread: list[Any] = []  # what the child said, as it came
        self._settling = RLock()  # two threads may wait, and the first close the handle while the other still asks
        # The fds are taken over without a call in between, at which a signal handler could come and raise: at any
        # moment they have one owner, who closes them.
        self._pidfd, passed[:] = passed[0], passed[1:]
        feed, passed[:] = passed[0], ()
        self.feed = fds.socket(*fds.KIND, feed)

    @classmethod
    def from_answer(cls, channel: Channel, answer: Answer, order: StartRequest) -> Child:
        """Make the handle of the child that an answer brought."""
        if answer.record is None or len(answer.fds) != 2:
            raise OSError("the fds of a child did not arrive: is this process out of fds?")
        return cls(channel, answer.record, answer.fds, order)

    def __repr__(self) -> str:
        return f"<Child {self.name} pid={self.pid} {self._outcome or 'running'}>"

    def fileno(self) -> int:
        """Give an fd that becomes readable when the child is dead. Raises ValueError after close()."""
        if self._pidfd < 0:
            raise ValueError("this handle is closed")
        return self._pidfd

    # -- its end

    @property
    def outcome(self) -> Exited | Signaled | Lost | None:
        """What became of the child, or None while it lives. Never blocks for longer than telling takes."""
        pidfd = self._pidfd
        if self._outcome is None and pidfd >= 0 and fds.wait_readable(pidfd, 0):
            self._settle()
        return self._outcome

    def is_running(self) -> bool:
        """Does the child live, and is this handle open? Asks for no outcome: that is up to whoever waits, maybe at this
        moment and in another thread."""
        pidfd = self._pidfd
        return self._outcome is None and pidfd >= 0 and not fds.wait_readable(pidfd, 0)

    def wait(self, timeout: float | None = None) -> Exited | Signaled | Lost:
        """Wait until the child is dead, and give its outcome.

        `timeout` is in seconds; None waits for ever, 0 asks. Raises TimeoutError where it still lives then, ValueError
        where the handle was closed before anybody knew.
        """
        pidfd = self._pidfd
        if self._outcome is None and pidfd >= 0:
            if not fds.wait_readable(pidfd, timeout):
                raise TimeoutError(f"{self.name} (pid {self.pid}) still runs after {timeout} s")
            self._settle()
        if self._outcome is None:
            raise ValueError("this handle is closed")
        return self._outcome

    def _settle(self) -> None:
        """The child is dead: learn how, once, whoever asks."""
        with self._settling:
            if self._outcome is None and self._pidfd >= 0:
                self._learn_outcome()

    def _learn_outcome(self) -> None:
        """Learn how the child ended. The order of the sources is that of M4."""
        record, channel = self._record, self._channel
        channel.wait_until(lambda: record.exited is not None, monotonic() + ANSWER_TIMEOUT)
        fate: messages.Exited | messages.Fate | None = record.exited
        if fate is None and channel.dead:
            fate = self._ask_tracker()
        if fate is not None:
            seconds = max(0, fate.ended_us - self.fed_us) / 1e6 if self.fed_us else None
            self.usage = Usage(fate.user_us / 1e6, fate.system_us / 1e6, fate.peak_kib * 1024, seconds)
            evidence = record.evidence if isinstance(fate, messages.Exited) else fate
            stack, why = (evidence.stack, evidence.why) if evidence is not None else ("", "")
            self._outcome = read_status(fate.status, stack, self._explain(fate.status, why))
        else:
            status = self._ask_kernel()
            self._outcome = (
                Lost("its template died before it told")
                if status is None
                else read_status(status, "", self._explain(status, ""))
            )
        if not self._replies:
            self._read_feed()
            self.let_go()

    def _explain(self, status: int, why: str) -> str:
        """Say what is known of a SIGKILL."""
        if status & 0x7F != SIGKILL or self._killed:
            return ""
        if self._record.stuck:
            return f'it hung in its birth, in the step "{self._record.stuck}", and its template killed it'
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
        told = pids.ask_status(self._pidfd) is not None
        return launch.ask_fate(client.door, self.pid, USAGE_TIMEOUT if told else ANSWER_TIMEOUT)

    def _ask_kernel(self) -> int | None:
        """Ask the kernel, which tells once somebody has reaped the child; or, of most codes, before."""
        status = pids.ask_status(self._pidfd)
        if status is None:
            status = pids.read_zombie_status(self.pid)
        if status is None and pids.wait_reaped(self._pidfd, REAP_TIMEOUT):
            status = pids.ask_status(self._pidfd)
        return status

    # -- signals

    def send_signal(self, number: int) -> None:
        """Send a signal to the child, never to a later process with its pid. A dead child takes none, silently."""
        if self._outcome is None:
            self._killed = self._killed or number == SIGKILL
            pids.send_signal(self.fileno(), number)

    def expect_kill(self) -> None:
        """Somebody here kills it, and not through this handle."""
        self._killed = True

    @property
    def template_pid(self) -> int:
        """The pid of the template that it was forked from."""
        return self._channel.pid

    def is_told(self) -> bool:
        """Has its template told how it ended, or will it never?"""
        return self._record.exited is not None or self._channel.dead

    def terminate(self) -> None:
        """Ask the child to end (SIGTERM)."""
        self.send_signal(15)

    def kill(self) -> None:
        """End the child (SIGKILL)."""
        self.send_signal(SIGKILL)

    # -- its words

    def result(self, timeout: float | None = None) -> object:
        """Give what the function returned, or raise what it raised, with the child's traceback.

        `timeout` is in seconds. Raises TimeoutError where the child still runs then, and ChildError where it ended
        without a result: it was killed, left by sys.exit(), or could not become what was asked.
        """
        deadline = None if timeout is None else monotonic() + timeout
        while self._feed_state in ("open", "running"):
            feed = self.feed
            number = feed.fileno() if feed is not None else -1
            if number < 0:
                break
            rest = None if deadline is None else deadline - monotonic()
            if not fds.wait_any_readable((number, self._pidfd), rest):
                raise TimeoutError(f"{self.name} (pid {self.pid}) still runs after {timeout} s")
            self._read_feed()
            if self._feed_state in ("open", "running") and fds.wait_readable(self._pidfd, 0):
                self._read_feed()
                break
        last = self._words[-1] if self._words else None
        outcome = self.wait(None if deadline is None else max(0.0, deadline - monotonic()))
        self.let_go()
        if isinstance(last, messages.Returned):
            return self._unpickle(last)
        if isinstance(last, messages.Raised):
            raise self._rebuild(last)
        detail = last.traceback if isinstance(last, messages.BirthFailed) else getattr(outcome, "stack", "")
        raise ChildError(self.name, outcome, detail)

    def birth_failure(self) -> messages.BirthFailed | None:
        """Give the step and traceback of a birth that failed, or None."""
        self._read_feed()
        last = self._words[-1] if self._words else None
        return last if isinstance(last, messages.BirthFailed) else None

    def read_buffers_at(self) -> bytes | None:
        """Give where the child wants the large parts of its payload, once it has said so."""
        self._read_feed()
        return self._room

    def is_birth_over(self) -> bool:
        """Has the child said that it has become what was asked, or that it could not?"""
        return self._feed_state != "open"

    def look(self) -> None:
        """Let go of what was kept for the child, if its birth is over."""
        self._read_feed()
        if self.keep is None and (self.feed is None or self._replies) and self.births is not None:
            self.births.discard(self)

    def _read_feed(self) -> None:
        """Read what the child has said so far."""
        with self._reading:
            while self.feed is not None and self._feed_state != "ended":
                try:
                    if not self._unread:  # else a signal handler that raised came in between
                        fds.receive_into(self._unread, self.feed)
                except BlockingIOError:
                    return
                except ConnectionResetError:
                    continue
                except OSError:
                    self._unread.append((b"", (), 0, None))
                self._take_word()

    def _take_word(self) -> None:
        """Enter the first of what was read."""
        item = self._unread[0] if self._unread else None
        if item is None:
            return  # a signal handler has read on
        got = fds.unpack_received(item)
        said: list[messages.Message] = []
        try:
            message = wire.decode(got.data)
            after = protocol.step(protocol.FEED, self._feed_state, protocol.UP, message)
            said.append(message)
        except ValueError:  # the end of the feed, or nonsense: the child has no more to say that we could hear
            after = "ended"
        # At once, as in Children.take():
        if not self._unread or self._unread[0] is not item:
            return
        del self._unread[0]
        self._feed_state = after
        if said and isinstance(said[0], messages.BuffersAt):
            self._room = said[0].addresses
            return
        self._words += said
        if said and got.fds:
            self._memory, got.fds[:] = got.fds[0], got.fds[1:]
        fds.close_all(got.fds)
        self.keep = None
        if not self._replies or (said and after == "ended"):
            self.let_go()

    def _unpickle(self, message: messages.Returned | messages.Raised) -> object:
        """Unpickle what came along."""
        from pickle import loads

        if self._memory < 0:
            return loads(message.inline)
        data, buffers = results.map_result(self._memory, message.size, message.buffers)
        return loads(data, buffers=buffers)

    def _rebuild(self, message: messages.Raised) -> BaseException:
        """Rebuild the child's exception, its traceback attached."""
        if not message.size:
            return ChildError(self.name, self._outcome, message.text)
        try:
            error = self._unpickle(message)
        except Exception as refusal:
            return ChildError(
                self.name, self._outcome, f"{message.text}\n(it could not be unpickled here: {refusal!r})"
            )
        if not isinstance(error, BaseException):
            return ChildError(self.name, self._outcome, message.text)
        error.add_note(f"\nIn {self.name} (pid {self.pid}):\n{message.text.rstrip()}")
        return error

    # -- letting go

    def cancel(self) -> None:
        """Send away a child that was not fed: it leaves when its feed ends. Waits until it has, and closes the handle."""
        self.let_go()
        if self._pidfd < 0:
            return
        fds.wait_readable(self._pidfd, None)
        self._settle()
        self.close()

    def let_go(self) -> None:
        """Close the feed, and drop what was kept for the child."""
        self.keep = None
        if self.births is not None:
            self.births.discard(self)
        feed, self.feed = self.feed, None
        if feed is not None:
            feed.close()

    def close(self) -> None:
        """Close the handle. The child runs on."""
        self.let_go()
        pidfd, self._pidfd = self._pidfd, -1
        if pidfd >= 0 and fds.is_still(pidfd, self._identity):
            os.close(pidfd)
        memory, self._memory = self._memory, -1
        if memory >= 0:
            os.close(memory)

    def __del__(self) -> None:
        if getattr(self, "_pidfd", -1) >= 0:
            self.close()
