"""Templates as the tracker sees them: starting one by exec, its launch, its obituary."""

from __future__ import annotations

import os

from warmfork._machine import fds, memory, pids, signals
from warmfork._tracker import files
from warmfork._tracker.main import make_log
from warmfork._words import board as board_
from warmfork._words import messages, wire
from warmfork._words.spec import Spec

START = __file__.replace("_tracker/templates.py", "_template/start.py")


MOST_ASKERS = 1000
"""Askers that are remembered before the dead are struck off."""


class TemplateRecord:
    """One generation of a template."""

    def __init__(
        self, key: tuple[object, ...], name: str, generation: int, pid: int, control: fds.socket, board: int, log: int,
        stacks: int = -1,
    ) -> None:  # fmt: skip
        self.key = key
        self.name = name
        self.generation = generation
        self.pid = pid
        self.control = control
        self.board = board
        self.log = log
        self.stacks = stacks
        self.alive = True
        self.ready = False
        self.wanted_dead = False
        self.pidfd = -1  # of one that is not our child
        self.askers: dict[int, int] = {}  # the processes that said hello to it, and when they were started
        self.refusal: messages.Message | None = None  # why it serves nobody, in its own words
        self.status = 0
        self.tail = ""

    def note_asker(self, pid: int) -> None:
        """Note who asked. Its start says later whether a process of this pid is still the one."""
        self.askers[pid] = pids.read_since(pid)
        if len(self.askers) > MOST_ASKERS:
            # Of those that are dead a living template has taken care itself.
            self.askers = {pid: since for pid, since in self.askers.items() if pids.read_since(pid) == since}

    def kill(self) -> None:
        """End it. Ours to reap, or named by a pidfd: so the pid is still its own."""
        if self.pidfd >= 0:
            pids.send_signal(self.pidfd, 9)
        else:
            os.kill(self.pid, 9)

    def get_board(self) -> board_.Board:
        """Give its board, which outlives it. Raises OSError or ValueError where this is none."""
        return board_.Board(memory.map_readable(self.board, board_.SIZE))

    def make_died(self) -> messages.Died:
        """Say how this template died, and while doing what."""
        preloading = ""
        try:
            item = self.get_board().read_head()[3]
            preload = dict(zip(Spec.FIELDS, self.key, strict=False)).get("preload", ())
            preloading = preload[item - 1] if item else ""  # type: ignore[index]
        except (OSError, ValueError, IndexError):
            preloading = ""
        return messages.Died(self.generation, self.status, wire.fit(str(preloading), 1000), wire.keep_end(self.tail))


LARGEST_SPEC = 64 << 20
"""Bytes. An environment may be 6 MB (a quarter of the largest stack); a file may say that it is a terabyte."""


def read_spec(fd: int) -> Spec:
    """Read a spec from its memfd. Raises ValueError, or OSError."""
    if os.fstat(fd).st_size > LARGEST_SPEC:
        raise ValueError(f"over {LARGEST_SPEC} bytes are no spec")
    spec = wire.decode(fds.read_all(fd))
    if not isinstance(spec, Spec):
        raise ValueError(f"a {type(spec).__name__} is no spec")
    return spec


def exec_template(
    key: tuple[object, ...], spec: Spec, generation: int, stdio: int, streams: list[int], ledger: int
) -> TemplateRecord:
    """Start a fresh interpreter as a template of the tree that has this ledger. Raises OSError where there is no such
    executable."""
    control, theirs = fds.make_pair()
    board = files.make_board(ledger)
    stacks = files.make_stacks()
    log = make_log()
    null = fds.open_null()
    try:
        out = streams[0] if stdio & 1 else null
        err = streams[-1] if stdio & 2 else null
        environment = {
            name: value for name, _, value in (os.fsencode(line).partition(b"=") for line in spec.environment)
        }
        pid = os.posix_spawn(
            spec.executable,
            [spec.executable, *spec.flags, START],
            environment,
            file_actions=(
                (os.POSIX_SPAWN_DUP2, null, 0),
                (os.POSIX_SPAWN_DUP2, out, 1),
                (os.POSIX_SPAWN_DUP2, err, 2),
                (os.POSIX_SPAWN_DUP2, theirs.fileno(), 3),
            ),
            setsigmask=signals.HELPERS_BLOCK,
            setsigdef=(signals.CHILD_DIED,),
        )
    except OSError:
        control.close()
        fds.close_all((board, log, stacks))
        raise
    finally:
        theirs.close()
        os.close(null)
    return TemplateRecord(key, spec.name, generation, pid, control, board, log, stacks)


def launch(template: TemplateRecord, passed: tuple[int, ...]) -> None:
    """Send a template its first message. See Launch for the fds."""
    fds.send(template.control, wire.encode(messages.Launch(template.generation)), passed)


def read_tail(log: int) -> str:
    """Give what a template wrote to its log."""
    return fds.read_all(log).rstrip(b"\0").decode("utf-8", "replace")
