"""One child while it runs: its output, its words, its limits and its end, as events and no loop.

Whoever drives it tells it which fds are ready and when time has passed: run() by poll(), arun() by an event loop.
"""

from __future__ import annotations

import os
from _socket import MSG_DONTWAIT, MSG_NOSIGNAL
from select import POLLIN, poll
from time import monotonic

from warmfork._machine import fds, pids, sockets
from warmfork._tasks import frames as words
from warmfork._tasks import tree
from warmfork.api.limits import Limits, Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal, Protocol

    from warmfork._client.handle import Child
    from warmfork.api.limits import Reached
    from warmfork.api.streams import Streams

    class Poller(Protocol):
        """Who tells when an fd is ready."""

        def add(self, fd: int, write: bool = False) -> None:
            """Watch an fd, for reading or for writing."""

        def remove(self, fd: int) -> None:
            """Watch it no longer. Always before it is closed."""


READ = 65_536
KEPT = 1 << 20
"""Bytes of each stream that are kept where no limit is given."""

KILL_STEP = 0.001


class Output:
    """What came out of one stream."""

    __slots__ = ("decoder", "dropped", "fd", "name", "parts", "size")

    def __init__(self, name: Literal["stdout", "stderr"], fd: int, text: bool) -> None:
        self.name: Literal["stdout", "stderr"] = name
        self.fd = fd
        self.decoder: Any = None
        if text:
            from codecs import getincrementaldecoder

            self.decoder = getincrementaldecoder("utf-8")("replace")
        self.clear()

    def clear(self) -> None:
        """Forget what came: another snippet begins."""
        self.parts: list[bytes] = []
        self.size = self.dropped = 0

    def keep(self, data: bytes, most: int) -> None:
        """Keep what came, up to so many bytes in all."""
        room = max(0, most - self.size)
        self.size += len(data)
        if room:
            self.parts.append(data[:room])
        self.dropped += max(0, len(data) - room)

    def get(self) -> bytes | str:
        """Give what is kept."""
        whole = b"".join(self.parts)
        return whole if self.decoder is None else whole.decode("utf-8", "replace")


class Watched:
    """A child, and what of it is watched."""

    def __init__(
        self,
        child: Child,
        link: sockets.socket,
        streams: Streams,
        poller: Poller,
        limits: Limits,
        template: int,
        text: bool,
        trust: bool,
    ) -> None:
        self.child = child
        self.pidfd = child.fileno()
        self.link = link
        self.poller = poller
        self.trust = trust
        self.watch = Watch(child.pid, limits, template)
        self.limits = limits
        outputs = Output("stdout", streams.take(1), text), Output("stderr", streams.take(2), text)
        self.outputs = {output.fd: output for output in outputs if output.fd >= 0}
        self.kept = list(self.outputs.values())
        self.looker = poll()  # at the outputs alone: to ask costs less than to read where there is nothing
        self.stdin = streams.take(0)
        self.input = memoryview(b"")
        self.outbox = memoryview(b"")
        self.inbox = bytearray()
        self.reply: words.Reply | None = None
        self.wanted: int | None = None  # a session: the number of the reply that ends this snippet
        self.on_output: Callable[[Literal["stdout", "stderr"], Any], object] | None = None
        self.reached: Reached | None = None
        self.broken: Exception | None = None  # what on_output raised
        self.killing: tree.TreeKill | None = None
        self.owner = os.getpid()
        self.dead = False
        self.over = False
        self.ended = 0.0
        for fd in (self.pidfd, link.fileno(), *self.outputs):
            poller.add(fd)
        for fd in self.outputs:
            self.looker.register(fd, POLLIN)
            os.set_blocking(fd, False)

    # -- what is sent

    def give_input(self, data: bytes) -> None:
        """Write this to its stdin, as it is read, and then close that."""
        self.input = memoryview(data)
        os.set_blocking(self.stdin, False)
        self.write_input()
        if self.stdin >= 0:
            self.poller.add(self.stdin, write=True)

    def write_input(self) -> None:
        """Write what there is room for."""
        try:
            while self.input:
                self.input = self.input[os.write(self.stdin, self.input) :]
        except BlockingIOError:
            return
        except OSError:  # it has closed its stdin: that is its business, as with subprocess
            self.input = memoryview(b"")
        self.close_stdin()

    def close_stdin(self) -> None:
        """Close its stdin."""
        fd, self.stdin = self.stdin, -1
        if fd >= 0:
            self.poller.remove(fd)
            os.close(fd)

    def send(self, data: bytes) -> None:
        """Send a frame to a session."""
        self.outbox = memoryview(data)
        self.flush()
        if self.outbox:
            self.poller.add(self.link.fileno(), write=True)

    def flush(self) -> None:
        """Send what there is room for. What a dead child has not read is nobody's."""
        try:
            while self.outbox:
                self.outbox = self.outbox[self.link.send(self.outbox, MSG_DONTWAIT | MSG_NOSIGNAL) :]
        except BlockingIOError:
            return
        except OSError:
            self.outbox = memoryview(b"")

    # -- what happens

    def on_ready(self, fd: int) -> None:
        """Something is to be read or written on this fd, or its other end is closed."""
        if fd == self.pidfd:
            self.bury()
        elif fd in self.outputs:
            self.read_output(self.outputs[fd])
        elif fd == self.stdin:
            self.write_input()
        elif self.link.fileno() == fd:
            if self.outbox:
                self.flush()
                if not self.outbox:
                    self.poller.remove(fd)
                    self.poller.add(fd)
            self.read_link()

    def get_due(self) -> float | None:
        """Give when on_time() is to be called, by monotonic()."""
        if self.killing is not None:
            return monotonic() + KILL_STEP
        return None if self.reached is not None or self.broken is not None else self.watch.get_due()

    def on_time(self) -> None:
        """Time has passed."""
        if self.killing is not None:
            if self.killing.step():
                self.killing = None
        elif self.reached is None and not self.dead:
            found = self.watch.look()
            if found is not None:
                self.stop(found)

    def stop(self, reached: Reached | None) -> None:
        """A limit was reached, or nobody wants it any more: end the whole tree, a step at a time."""
        self.reached = self.reached or reached
        if self.killing is None and not self.dead:
            self.killing = tree.TreeKill(self.child.pid, self.pidfd)
            self.child._sent.add(tree.KILL)  # or the handle would say that somebody else had

    def finish(self) -> None:
        """End the whole tree, if it lives, and let go of all. Raises PermissionError where the child has become another
        user, whom this process may not end: that one runs on."""
        try:
            self.end_now()
        finally:
            self.bury()
            self.sweep()
            self.child.close()

    def end_now(self) -> None:
        """End the whole tree, at once, and wait for the child's end. In a forked copy of this program, only let go."""
        if self.owner != os.getpid():
            self.drop_copies()
        if not self.dead:
            self.stop(None)
            if self.killing is not None:
                self.killing.finish()
                self.killing = None
            fds.wait_readable(self.pidfd, None)

    # -- what is read

    def read_output(self, output: Output) -> int:
        """Read once. Gives how many bytes came."""
        try:
            data = os.read(output.fd, READ)
        except BlockingIOError:
            return 0
        if not data:
            self.close_output(output)
            return 0
        self.take_output(output, data)
        return len(data)

    def take_output(self, output: Output, data: bytes) -> None:
        """Keep what came, tell the user, and look at the limit, which is one for both streams."""
        limit = self.limits.output
        others = sum(other.size for other in self.kept if other is not output)
        output.keep(data, KEPT if limit is None else limit - others)
        if self.on_output is not None and self.broken is None:
            try:
                said = data if output.decoder is None else output.decoder.decode(data)
                if said:
                    self.on_output(output.name, said)
            except Exception as error:
                self.broken = error
                self.stop(None)
        if limit is not None and others + output.size > limit and self.reached is None:
            self.stop(("output", limit, others + output.size))

    def close_output(self, output: Output) -> None:
        """This stream is at its end."""
        fd, output.fd = output.fd, -1
        if self.outputs.pop(fd, None) is not None:
            self.looker.unregister(fd)
            self.poller.remove(fd)
            os.close(fd)

    def drain(self) -> None:
        """Read what is in the pipes now, and no more: somebody who was left behind may hold them, and write for ever."""
        for fd, _ in self.looker.poll(0):
            output, rest = self.outputs.get(fd), PIPE_SIZE
            while output is not None and rest > 0 and output.fd >= 0:
                got = self.read_output(output)
                rest -= got or PIPE_SIZE

    def read_link(self) -> None:
        """Read what it says. Nonsense, or too much of it, costs the child its voice and nobody anything else."""
        most = words.LARGEST_TRUSTED if self.trust else words.LARGEST
        try:
            data = self.link.recv(READ if len(self.inbox) < READ else 1 << 20, MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close_link()
            return
        self.inbox += data
        while not self.over and len(self.inbox) >= words.HEADER.size:
            kind, size = words.HEADER.unpack_from(self.inbox)
            if kind != words.REPLY or size > most:
                self.close_link()
                return
            end = words.HEADER.size + size
            if len(self.inbox) < end:
                return
            frame = bytes(self.inbox[words.HEADER.size : end])
            del self.inbox[:end]
            self.take_reply(frame)

    def take_reply(self, frame: bytes) -> None:
        """Take what a snippet came to, if it is the one that is waited for."""
        try:
            reply = words.read_reply(frame)
        except ValueError:
            self.close_link()
            return
        if self.wanted is None:
            self.reply = self.reply or reply
        elif reply.number == self.wanted:
            self.reply = reply
            if self.killing is None:
                self.drain()
                self.ended = monotonic()
                self.over = self.killing is None

    def close_link(self) -> None:
        """It says no more that we would hear."""
        if self.link.fileno() >= 0:
            self.poller.remove(self.link.fileno())
            self.link.close()
            self.inbox.clear()

    def bury(self) -> None:
        """It is dead: read what it left, and let go of all."""
        if self.dead:
            return
        self.dead = True
        self.ended = monotonic()
        self.poller.remove(self.pidfd)
        self.drain()
        while self.link.fileno() >= 0 and self.reply is None and fds.wait_readable(self.link.fileno(), 0):
            self.read_link()
        self.close()
        self.over = True

    def close(self) -> None:
        """Let go of all fds but the handle's."""
        self.close_stdin()
        for output in list(self.outputs.values()):
            self.close_output(output)
        self.close_link()
        self.killing = None

    def drop_copies(self) -> None:
        """In a forked copy: the child is the original's, and so is what watches these fds. Close our copies of them."""
        self.dead = self.over = True
        for fd in (self.stdin, *self.outputs):
            if fd >= 0:
                os.close(fd)
        self.stdin = -1
        self.outputs.clear()
        self.link.close()

    def sweep(self) -> None:
        """End what the dead child has left behind in its session: the tracker is the parent of that now, as it is the
        template's."""
        fields = pids.read_stat(self.child._channel.pid)
        if len(fields) > 1 and self.owner == os.getpid():
            tree.end_session(int(fields[1]), self.child.pid)


PIPE_SIZE = 1 << 20
"""Bytes that a pipe has at most (fs.pipe-max-size), and so what can be left in one."""
