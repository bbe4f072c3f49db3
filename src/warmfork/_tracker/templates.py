"""Templates as the tracker sees them: starting one by exec, its launch, its obituary."""

from __future__ import annotations

import os
from posix import posix_spawn  # which debuggers leave alone

from warmfork._machine import fds, memfds, memory, pids, signals, sockets
from warmfork._tracker import files
from warmfork._words import board as board_
from warmfork._words import messages, protocol, wire
from warmfork._words.spec import Spec

START = __file__.replace("_tracker/templates.py", "_template/start.py")


MOST_ASKERS = 1000
"""Askers that are remembered before the dead are struck off."""


class TemplateRecord:
    """One generation of a template. One that the tracker before us has started has no control socket and no log, and a
    pidfd instead: it is not our child."""

    def __init__(
        self,
        key: tuple[object, ...],
        name: str,
        generation: int,
        pid: int,
        board: fds.Fd,
        log: fds.Fd,
        control: sockets.socket | None = None,
        pidfd: fds.Fd | None = None,
        stacks: fds.Fd | None = None,
    ) -> None:
        self.key = key
        self.name = name
        self.generation = generation
        self.pid = pid
        self.board, self.log, self.control = board, log, control
        self.pidfd = pidfd
        self.stacks = stacks or fds.Fd(-1)
        self.state = "preloading"  # of the conversation on the control socket
        self.alive = True
        self.wanted_dead = False
        self.askers: dict[int, int] = {}  # the processes that said hello to it, and when they were started
        self.refusal: messages.Message | None = None  # why it serves nobody, in its own words
        self.status = 0
        self.tail = ""

    @property
    def ready(self) -> bool:
        """Has it said that it serves?"""
        return self.state == "sealed"

    def take(self, data: bytes) -> None:
        """Take what it said. Raises ValueError for what the table does not list: a preload has written to a socket that is
        not its own."""
        said = wire.decode(data)
        self.state = protocol.step(protocol.CONTROL, self.state, protocol.UP, said)
        if not isinstance(said, messages.Sealed):
            self.refusal = said

    def note_asker(self, pid: int) -> None:
        """Note who asked. Its start says later whether a process of this pid is still the one."""
        self.askers[pid] = pids.read_since(pid)
        if len(self.askers) > MOST_ASKERS:
            # Of those that are dead a living template has taken care itself.
            self.drop_dead_askers()

    def drop_dead_askers(self) -> None:
        """Strike off the askers that are dead."""
        self.askers = {pid: since for pid, since in self.askers.items() if pids.is_alive(pid, since)}

    def kill(self) -> None:
        """End it. Ours to reap, or named by a pidfd: so the pid is still its own."""
        self.wanted_dead = True
        if self.pidfd is not None:
            pids.send_signal(self.pidfd.fileno(), 9)
        else:
            os.kill(self.pid, 9)

    def get_board(self) -> board_.Board:
        """Give its board, which outlives it, to be read. Raises OSError or ValueError where this is none."""
        return board_.Board(memory.map_readable(self.board.fileno(), board_.SIZE))

    def make_died(self) -> messages.Died:
        """Say how this template died, and while doing what."""
        preloading = ""
        try:
            item = self.get_board().read_head()[3]
            preload = dict(zip(Spec.FIELDS, self.key, strict=False)).get("preload", ())
            preloading = preload[item - 1] if item > 0 else ""  # type: ignore[index]
        except (ValueError, IndexError, OSError):
            preloading = ""
        return messages.Died(
            self.generation, self.status, wire.fit(str(preloading), 1000), wire.keep_end(self.tail, 4000)
        )

    def read_tail(self) -> str:
        """Give what it wrote to its log."""
        return memfds.read_all(self.log.fileno()).rstrip(b"\0").decode("utf-8", "replace") if self.log else ""


LARGEST_SPEC = 64 << 20
"""Bytes. An environment may be 6 MB (a quarter of the largest stack); a file may say that it is a terabyte."""

F_GET_SEALS = 1034


def read_spec(fd: int) -> Spec:
    """Read a spec from its memfd. Raises ValueError, or OSError."""
    if not memfds.no_memfds:
        from fcntl import fcntl

        fcntl(fd, F_GET_SEALS)  # EINVAL of what is not in memory: a file in some file system may have us wait for ever
    if os.fstat(fd).st_size > LARGEST_SPEC:
        raise ValueError(f"over {LARGEST_SPEC} bytes are no spec")
    spec = wire.decode(memfds.read_all(fd))
    if not isinstance(spec, Spec):
        raise ValueError(f"a {type(spec).__name__} is no spec")
    return spec


def exec_template(
    key: tuple[object, ...], spec: Spec, generation: int, stdio: int, streams: list[int], ledger: int
) -> TemplateRecord:
    """Start a fresh interpreter as a template of the tree that has this ledger. Raises OSError where there is no such
    executable, ValueError where it, or an option, or a variable has a NUL."""
    environment = {name: value for name, _, value in (os.fsencode(line).partition(b"=") for line in spec.environment)}
    board, stacks, log = fds.Fd(files.make_board(ledger)), fds.Fd(files.make_stacks()), fds.Fd(files.make_log())
    control, theirs = sockets.make_pair()
    try:
        with fds.Fd(fds.open_null()) as null:
            out = streams[0] if stdio & 1 else null.fileno()
            err = streams[-1] if stdio & 2 else null.fileno()
            pid = posix_spawn(
                spec.executable,
                [spec.executable, *spec.flags, START],
                environment,
                file_actions=(
                    (os.POSIX_SPAWN_DUP2, null.fileno(), 0),
                    (os.POSIX_SPAWN_DUP2, out, 1),
                    (os.POSIX_SPAWN_DUP2, err, 2),
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), 3),
                ),
                setsigmask=signals.HELPERS_BLOCK,
            )
    except BaseException:
        control.close()
        raise
    finally:
        theirs.close()
    return TemplateRecord(key, spec.name, generation, pid, board, log, control, stacks=stacks)


def launch(template: TemplateRecord, passed: tuple[int, ...]) -> None:
    """Send a template its first message. See Launch for the fds. Raises OSError."""
    if template.control is None:
        raise RuntimeError("only our own templates are launched")
    sockets.send(template.control, wire.encode(messages.Launch(template.generation)), passed)
