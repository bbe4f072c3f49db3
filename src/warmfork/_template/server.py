"""The server: one loop that adopts clients, forks for them, reaps, and tells. One thread, and it waits for nobody.

It unpickles nothing, never sees a payload or a client's environment, and wakes only for a cause. `serve` returns only
in a child, with its birth, or when no client is left.
"""

from __future__ import annotations

import gc
import os
import sys
from _collections import deque  # without the collections module, which costs a bare template 2 ms
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, epoll
from time import monotonic, monotonic_ns

from warmfork._child import ending
from warmfork._child.birth import Birth
from warmfork._machine import fds, signals, state, titles
from warmfork._template import seal
from warmfork._words import board as board_
from warmfork._words import messages, protocol, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from warmfork._words.board import Board
    from warmfork._words.spec import Spec

IDLE = 0.001
"""Seconds without a request after which a template has time for itself."""

GRACE = 1.0
"""Seconds between SIGTERM and SIGKILL for the children of a client that died."""


class Client:
    """A process that asks for children."""

    __slots__ = ("channel", "children", "outbox", "pid", "pidfd")

    def __init__(self, channel: fds.socket, pid: int, pidfd: int) -> None:
        self.channel: fds.socket | None = channel
        self.pid = pid
        self.pidfd = pidfd
        self.children: set[int] = set()
        self.outbox: deque[tuple[bytes, tuple[int, ...]]] = deque()


class Server:
    """What a sealed template knows."""

    def __init__(self, spec: Spec, board: Board, generation: int, control: fds.socket, kept: tuple[int, ...]) -> None:
        self.spec = spec
        self.board = board
        self.generation = generation
        self.control = control
        self.kept = kept  # fds that the preload opened: children have them, as they would under fork
        self.base = state.take_small()
        self.notes: tuple[str, ...] = ()
        here = os.stat(".")
        self.here = here.st_dev, here.st_ino
        self.environment: tuple[str, ...] = spec.environment
        self.me = os.pidfd_open(os.getpid())
        self.children: dict[int, tuple[int, Client, int]] = {}  # pid: slot, client, kill
        self.condemned: dict[int, float] = {}  # pid: when SIGKILL is due
        self.clients: set[Client] = set()
        self.starts = 0
        self.titled = -1
        self.rehearsed = False
        self.rehearsal: Iterator[int] | None = None
        self.born: Birth | None = None
        self.poller = epoll()
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.watch(control.fileno(), self.read_control)
        self.awake = self.listen_to_deaths()

    # -- the loop

    def serve(self) -> Birth | None:
        """Serve until no client is left (None), or, in a child, give its birth."""
        self.board.write_phase(board_.SERVING)
        self.show_title()
        adopted = bool(self.clients)  # the first may have come, and may have gone by now
        while True:
            timeout = max(0.0, min(self.condemned.values()) - monotonic()) if self.condemned else None
            if self.starts > 1 and not self.rehearsed and timeout is None:
                # Once, when nobody wants anything, and a round at a time: a request or a death comes first. Not for the
                # first child, which would have to share the processor with it; it may be the only one.
                timeout = self.rehearse_meanwhile()
            for fd, events in self.poller.poll(timeout):
                handler = self.handlers.get(fd)
                if handler is not None:
                    handler(events)
                if self.born is not None:
                    return self.born
            if self.condemned:
                self.execute()
            adopted = adopted or bool(self.clients)
            if adopted and not self.clients and not self.condemned:
                return None
            if self.titled != len(self.children):
                self.show_title()

    def rehearse_meanwhile(self) -> float:
        """Make the next births faster. Gives the time-out with which to poll next."""
        if self.poller.poll(IDLE if self.rehearsal is None else 0.0):
            return 0.0
        if self.rehearsal is None:
            from warmfork._template.rehearsal import rehearse

            if not self.spec.preload:
                # A bare template is sealed without this, to be there sooner.
                gc.unfreeze()
                gc.collect()
                ending.prepare_helper()
            self.rehearsal = rehearse(self.spec, self.board, self.base)
        try:
            over = next(self.rehearsal, None) is None
        except Exception:
            # Whatever it lacked, a birth may do without: the log of the template has the traceback.
            sys.excepthook(*sys.exc_info())
            over = True
        if over:
            self.rehearsal = None
            self.rehearsed = True
            self.titled = -1  # the loop shows the title again before it waits
            gc.freeze()
        return 0.0

    def watch(self, fd: int, handler: Callable[[int], None], events: int = EPOLLIN) -> None:
        """Call this handler when something happens on this fd."""
        self.handlers[fd] = handler
        self.poller.register(fd, events)

    def forget(self, fd: int) -> None:
        """Stop watching. Always before the fd is closed: a fork may hold its file open, and epoll would then report
        it for ever (44,965 events in 50 ms)."""
        del self.handlers[fd]
        self.poller.unregister(fd)

    def show_title(self) -> None:
        """Say in the title how many children there are."""
        self.titled = count = len(self.children)
        plural = "child" if count == 1 else "children"
        titles.set_title(f"warmfork: template {self.spec.name} gen={self.generation} [{count} {plural}]")

    # -- clients

    def read_control(self, _events: int) -> None:
        """Adopt a client that the tracker sends. Its end means the tracker is dead, and we serve on."""
        try:
            got = fds.receive(self.control)
        except BlockingIOError:
            return
        except OSError:
            got = fds.Received(b"", [], 0, False)
        if not got.data:
            self.forget(self.control.fileno())
            self.control.close()
            return
        try:
            message = wire.decode(got.data)
            protocol.step(protocol.CONTROL, "sealed", protocol.DOWN, message)
        except ValueError:
            fds.close_all(got.fds)
            return
        if isinstance(message, messages.Adopt) and len(got.fds) == 2:
            self.adopt(fds.adopt_socket(got.fds[0]), message.pid, got.fds[1])
        else:
            fds.close_all(got.fds)

    def adopt(self, channel: fds.socket, pid: int, pidfd: int) -> None:
        """Take a client on and welcome it."""
        client = Client(channel, pid, pidfd)
        self.clients.add(client)
        self.watch(channel.fileno(), lambda events: self.read_channel(client, events))
        self.watch(pidfd, lambda events: self.bury_client(client))
        self.tell(client, self.welcome(), (os.dup(self.me),))

    def welcome(self) -> messages.Message:
        """Say what a client has to know of this template; leave out what is too large to say."""
        message = messages.Welcome(
            generation=self.generation,
            pid=os.getpid(),
            cwd_device=self.here[0],
            cwd_inode=self.here[1],
            environment=self.environment,
            notes=self.notes,
        )
        if sum(len(line) for line in self.environment + self.notes) > wire.LARGEST // 2:
            return messages.Welcome(self.generation, os.getpid(), *self.here, (), tuple(n[:500] for n in self.notes[:20]))
        return message

    def read_channel(self, client: Client, events: int) -> None:
        """Read one request. One at a time, so that clients take turns."""
        if client.channel is None:
            return
        if events & EPOLLOUT:
            self.flush(client)
        if not events & (EPOLLIN | EPOLLHUP | EPOLLERR):
            return
        try:
            got = fds.receive(client.channel)
        except BlockingIOError:
            return
        except OSError:
            self.detach(client)
            return
        if not got.data:
            self.detach(client)
            return
        fds.close_all(got.fds)
        try:
            message = wire.decode(got.data)
            protocol.step(protocol.CHANNEL, "served", protocol.UP, message)
        except ValueError:
            # Nonsense costs the sender its own channel, and nobody else anything.
            self.detach(client)
            return
        if isinstance(message, messages.Spawn):
            self.fork(client, message)

    def detach(self, client: Client) -> None:
        """The client has let go of its channel. It may live on: its children's policy still needs its death."""
        if client.channel is not None:
            self.forget(client.channel.fileno())
            client.channel.close()
            client.channel = None
            for _, passed in client.outbox:
                fds.close_all(passed)
            client.outbox.clear()
        if not any(self.children[pid][2] for pid in client.children):
            self.release(client)

    def release(self, client: Client) -> None:
        """Nothing depends on this client any longer."""
        if client in self.clients:
            self.clients.remove(client)
            self.forget(client.pidfd)
            os.close(client.pidfd)

    def bury_client(self, client: Client) -> None:
        """The client is dead: end those of its children whose policy says so, let the others live."""
        for pid in client.children:
            if self.children[pid][2]:
                os.kill(pid, 15)  # not reaped yet, so the pid can't be another's
                os.kill(pid, 18)  # a stopped process takes SIGTERM only after SIGCONT
                self.condemned[pid] = monotonic() + GRACE
        client.children = set()
        self.detach(client)

    def execute(self) -> None:
        """Kill the condemned whose grace is over."""
        now = monotonic()
        for pid, due in list(self.condemned.items()):
            if due <= now:
                os.kill(pid, 9)
                self.condemned[pid] = now + 3600.0  # it dies now; reaping takes it off the list

    # -- children

    def fork(self, client: Client, wanted: messages.Spawn) -> None:
        """Fork a child for this client and announce it. A fork that fails is an answer, not our end (rows 29, 30)."""
        slot = self.board.take_slot()
        if slot < 0:
            self.tell(client, messages.SpawnFailed(wanted.request, 11, "board"))  # EAGAIN
            return
        self.board.write_slot(slot, client.pid, wanted.kill, monotonic_ns(), wanted.name.encode("utf-8", "replace")[:87])
        step = "socketpair"
        pid = -1
        try:
            ours, theirs = fds.make_pair()
            step = "fork"
            before_fork(tuple(sorted((*self.kept, ours.fileno()))))
            try:
                pid = os.fork()
            finally:
                if pid != 0:
                    ours.close()
            if pid == 0:
                theirs.detach()
                seal.restore_warnings()
                birth = Birth(ours, self.board, slot, self.base, self.spec)
                birth.keep = self
                self.born = birth
                return
        except OSError as error:
            self.board.free_slot(slot)
            if step == "fork":
                theirs.close()
            self.tell(client, messages.SpawnFailed(wanted.request, error.errno or 0, step))
            return
        self.board.write_pid(slot, pid)
        self.children[pid] = slot, client, wanted.kill
        client.children.add(pid)
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            theirs.close()  # the child reads the end of its feed, and leaves
            self.tell(client, messages.SpawnFailed(wanted.request, error.errno or 0, "pidfd_open"))
            return
        self.tell(client, messages.Spawned(wanted.request, pid), (pidfd, theirs.detach()))
        self.starts += 1
        self.board.write_starts(self.starts)

    def listen_to_deaths(self) -> int:
        """Have SIGCHLD wake the loop."""
        import _signal

        awake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        _signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        # Set after the preload, which may have changed it. A Python handler has to exist for the byte to be written.
        signals.set_disposition(signals.CHILD_DIED, lambda number, frame: None)
        self.watch(awake, self.reap)
        return awake

    def reap(self, _events: int) -> None:
        """Reap what is dead, and tell."""
        os.read(self.awake, 4096)
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            known = self.children.pop(pid, None)
            self.condemned.pop(pid, None)
            if known is None:
                continue  # a helper that took over a child's memory, or a process that a preload started
            slot, client, _ = known
            self.board.free_slot(slot)
            client.children.discard(pid)
            self.tell(
                client,
                messages.Exited(
                    pid, status, int(usage.ru_utime * 1e6), int(usage.ru_stime * 1e6), usage.ru_maxrss
                ),
            )
            if client.channel is None and not any(self.children[other][2] for other in client.children):
                self.release(client)

    # -- telling

    def tell(self, client: Client, message: messages.Message, passed: tuple[int, ...] = ()) -> None:
        """Send to this client, or keep it for later where the client is behind. `passed` fds are closed."""
        if client.channel is None:
            fds.close_all(passed)
            return
        data = wire.encode(message)
        if client.outbox:
            client.outbox.append((data, passed))
            return
        try:
            fds.send(client.channel, data, passed)
        except BlockingIOError:
            client.outbox.append((data, passed))
            self.poller.modify(client.channel.fileno(), EPOLLIN | EPOLLOUT)
            return
        except OSError as error:
            fds.close_all(passed)
            if isinstance(message, messages.Spawned):
                # ETOOMANYREFS: too many fds in flight for this user. The child leaves: its feed is closed.
                self.tell(client, messages.SpawnFailed(message.request, error.errno or 0, "sendmsg"))
            return  # EPIPE, ECONNRESET: the pidfd will tell
        fds.close_all(passed)

    def flush(self, client: Client) -> None:
        """Send what was kept for this client."""
        while client.outbox and client.channel is not None:
            data, passed = client.outbox[0]
            try:
                fds.send(client.channel, data, passed)
            except BlockingIOError:
                return
            except OSError:
                self.detach(client)
                return
            client.outbox.popleft()
            fds.close_all(passed)
        if client.channel is not None:
            self.poller.modify(client.channel.fileno(), EPOLLIN)


_keep: tuple[int, ...] | None = None


def before_fork(keep: tuple[int, ...]) -> None:
    """The next fork is a birth: its child keeps these fds only."""
    global _keep
    _keep = keep


def close_in_child() -> None:
    """Close everything but the feed, in a child, before any other at-fork handler runs. A library's handler that hangs
    would otherwise hold every channel open (M11). Forks that a preload makes by itself are none of ours."""
    global _keep
    if _keep is not None:
        import _signal

        _signal.set_wakeup_fd(-1)
        fds.close_all_but(_keep)
        # What the template blocks stays blocked until the child has its own dispositions.
        signals.set_disposition(signals.CHILD_DIED, signals.SIG_DFL)
        _keep = None
