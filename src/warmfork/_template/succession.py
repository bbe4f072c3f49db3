"""When the tracker dies: its templates start a successor, and each tells it about itself (M20, M21).

Any of them may be the first, and so may the program: whoever gets the lock on the ledger is the tracker, and the others
leave at once.
"""

from __future__ import annotations

import os
from time import monotonic

from warmfork._machine import fds, memory, pids, role, signals
from warmfork._words import board as board_
from warmfork._words import messages, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from warmfork._template.server import Server

START = __file__.replace("_template/succession.py", "_tracker/start.py")

MOST, WINDOW = 20, 10.0
"""Successors that a template starts at most within so many seconds: one that can't even start is not to be tried for
ever."""

LINGER = 0.02
"""Seconds between a SIGKILL and the death of a small process, at most."""


class Given:
    """What a template was given by its tracker: its generation, and fds."""

    __slots__ = ("board", "door", "errors", "generation", "ledger", "log", "receiver", "spec", "stacks")

    def __init__(
        self,
        generation: int,
        spec: int,
        board: int,
        log: int,
        door: int,
        stacks: int,
        receiver: int,
        ledger: int,
        errors: int,
    ) -> None:
        self.generation = generation
        self.spec, self.board, self.log, self.door = spec, board, log, door
        self.stacks = stacks
        self.receiver = receiver  # the door's other end: what is sent there meanwhile waits for the successor
        self.ledger = ledger
        self.errors = errors  # the program's stderr, for the successor


class Tracker:
    """The tracker as its template sees it: a pidfd, and how to have another."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.spec = server.state.spec
        self.given = server.given
        self.started: list[float] = []
        self.pidfd = self.find()

    def attend(self) -> None:
        """Watch it, or succeed it, where it died while we preloaded."""
        if self.pidfd >= 0 and not fds.is_at_end(self.server.control):
            self.server.watch(self.pidfd, self.bury)
        else:
            self.bury(0)

    def bury(self, _events: int) -> None:
        """The tracker is dead: have a successor. Where there can be none, we serve on those whom we know."""
        server = self.server
        server.loop.forget(self.pidfd)
        while server.control.fileno() >= 0 and fds.wait_readable(server.control.fileno(), 0):
            server.read_control(0)  # the clients that the dead tracker has sent us
        if server.control.fileno() >= 0:
            server.loop.forget(server.control.fileno())
            server.control.close()
        try:
            self.succeed()
            server.watch(self.pidfd, self.bury)
            server.control = self.make_control(server.state.me)
        except OSError as error:
            os.write(2, f"warmfork: the tracker is dead, and no successor could be started: {error}\n".encode())
            return
        server.watch(server.control.fileno(), server.read_control)

    def see_off(self) -> None:
        """Before we end: has somebody killed the tracker together with the program? Then it dies at this moment, and
        nobody else would start the successor that removes what the program has left."""
        if self.pidfd in self.server.loop.handlers and fds.wait_readable(self.pidfd, LINGER):
            self.bury(0)

    def find(self) -> int:
        """Give a pidfd on whoever is the tracker, or -1 where there is none, or none to be seen."""
        holder = memory.read_lock_holder(self.given.ledger)
        try:
            return pids.open_pidfd(holder) if holder > 0 else -1
        except ProcessLookupError:
            return -1

    def succeed(self) -> None:
        """The tracker is dead: find who is it now, or start a successor. Raises OSError."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
        self.pidfd = self.find()
        if self.pidfd >= 0:
            return
        now = monotonic()
        self.started = [at for at in self.started if now - at < WINDOW]
        if len(self.started) >= MOST:
            raise OSError(f"{MOST} successors have died within {WINDOW} s")
        self.started.append(now)
        self.pidfd = pids.open_pidfd(self.start_successor())

    def start_successor(self) -> int:
        """Start another tracker. Gives its pid. Raises OSError."""
        spec, given = self.spec, self.given
        null = fds.open_null()
        try:
            return os.posix_spawn(
                spec.executable,
                [spec.executable, *spec.flags, START],
                {name: value for name, _, value in (os.fsencode(line).partition(b"=") for line in spec.environment)},
                file_actions=(
                    (os.POSIX_SPAWN_DUP2, null, 0),
                    (os.POSIX_SPAWN_DUP2, null, 1),
                    (os.POSIX_SPAWN_DUP2, given.errors, 2),
                    (os.POSIX_SPAWN_DUP2, given.receiver, 3),
                    (os.POSIX_SPAWN_DUP2, given.ledger, 4),
                ),
                setsigmask=signals.HELPERS_BLOCK,
                setsigdef=(signals.CHILD_DIED,),
            )
        finally:
            os.close(null)

    def make_control(self, me: int) -> fds.socket:
        """Have the new tracker know us. Gives the control socket. Raises OSError."""
        control, theirs = fds.make_pair()
        door = fds.adopt_socket(os.dup(role.get_door()))
        try:
            passed = (theirs.fileno(), me, self.given.spec, self.given.board, self.given.log, self.given.stacks)
            fds.send(door, wire.encode(messages.Return(self.given.generation, board_.SERVING)), passed)
        except OSError:
            control.close()
            raise
        finally:
            theirs.close()
            door.close()
        return control
