"""A template's life: launch, preload, seal, serve. Its children unwind to here before they run anything."""

from __future__ import annotations

import gc
import os
import sys
from time import monotonic_ns

from warmfork._child import ending, stdio
from warmfork._child.birth import become
from warmfork._machine import fds, memfds, memory, pids, signals, sockets, stacks, state, titles
from warmfork._template import forking, seal, server, spares
from warmfork._template.state import TemplateState
from warmfork._words import board as board_
from warmfork._words import messages, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from warmfork._template.server import MakeIdle
    from warmfork._words.spec import Spec


class Given:
    """What a template was given by its tracker: its generation, and fds."""

    __slots__ = ("board", "door", "generation", "log", "spec", "stacks")

    def __init__(self, generation: int, spec: int, board: int, log: int, door: int, stacks: int) -> None:
        self.generation = generation
        self.spec, self.board, self.log, self.door, self.stacks = spec, board, log, door, stacks


def main(
    control: sockets.socket,
    make_idle: MakeIdle,
    launched: tuple[int, ...] | None = None,
    client: tuple[int, int, int] | None = None,
) -> NoReturn:
    """Be a template, for the tracker at the other end of this socket.

    `make_idle` makes what fills idle time.
    `launched` is what a Launch brings, where the tracker forked us.
    `client` is the channel, pid and pidfd of the first client; others come by Adopt.
    """
    # Before any preload can register its own: child handlers run in the order of registration.
    os.register_at_fork(after_in_child=forking.close_in_child)
    forking.watch_handlers()
    collector = Collector()
    signals.set_mask(signals.HELPERS_BLOCK)
    given = Given(*(launched or receive_launch(control)))
    spec = read_spec(given.spec)
    board, number = map_board(given)
    board.begin(given.generation, os.getpid(), monotonic_ns())
    titles.load()
    titles.set_title(f"warmfork: template {spec.name} gen={given.generation} [preloading]")
    made = prepare(spec, board, control, given, client, number, make_idle)
    collector.stop()
    code = 1
    try:
        birth = made.serve()
        if birth is None:
            board.write_phase(board_.ENDING)
            leave()
        collector.give_back()
        seal.restore_warnings()
        code = become(birth)
    except BaseException:
        # A fault of ours, or SystemExit from an at-fork handler: seen on stderr, and never back into the loop.
        sys.excepthook(*sys.exc_info())
    finally:
        ending.leave(code)


class Collector:
    """The garbage collector, which nobody needs while modules are loaded. It does not run, and still says that it is
    enabled: so a preload that switches it off, or sets its thresholds, is understood, and its children have that."""

    def __init__(self) -> None:
        self.thresholds = gc.get_threshold()
        self.enabled = True
        self.paused = (0, *self.thresholds[1:])
        gc.enable()
        gc.set_threshold(*self.paused)

    def stop(self) -> None:
        """The preload is over. Nothing is collected here, for that might run the user's code."""
        self.enabled = gc.isenabled()
        if gc.get_threshold() != self.paused:
            self.thresholds = gc.get_threshold()
        gc.disable()

    def give_back(self) -> None:
        """In a child: as the preload left it, or as it was before."""
        gc.set_threshold(*self.thresholds)
        if self.enabled:
            gc.enable()


def map_board(given: Given) -> tuple[board_.Board, int]:
    """Map the board, which nobody else can write to from then on; what is left of it in `given` can be read only. Gives
    it, and the number of an fd that children need: the mmap object closes it when a child unmaps the board, before any
    user code runs. It is /dev/null: no child has an fd on the board."""
    given.stacks = state.move_high(given.stacks)  # children have it for life: out of the way of low numbers
    mapping, number = memory.map_shared_by(given.board, board_.SIZE)
    null = fds.open_null()
    os.dup2(null, number, False)
    os.close(null)
    memory.seal(given.board, memory.SEAL_FUTURE_WRITE)  # of a file, which stands in for a memfd, only we had an fd
    try:
        readable = os.open(f"/proc/self/fd/{given.board}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        readable = given.board
    else:
        os.close(given.board)
    given.board = state.move_high(readable)
    return board_.Board(mapping), number


def receive_launch(control: sockets.socket) -> tuple[int, ...]:
    """Receive what the tracker gives: see Given."""
    got = sockets.receive(control, flags=sockets.RECEIVE_BLOCKING)
    message = wire.decode(got.data)
    if not isinstance(message, messages.Launch) or len(got.fds) != 5:
        raise RuntimeError(f"a template starts with a Launch and 5 fds, not {message!r} and {len(got.fds)}")
    return message.generation, *got.fds


def read_spec(fd: int) -> Spec:
    """Read the spec from its memfd."""
    from warmfork._words.spec import Spec

    spec = wire.decode(memfds.read_all(fd))
    if not isinstance(spec, Spec):
        raise RuntimeError(f"no spec but {spec!r}")
    return spec


def prepare(
    spec: Spec,
    board: board_.Board,
    control: sockets.socket,
    given: Given,
    client: tuple[int, int, int] | None,
    number: int,
    make_idle: MakeIdle,
) -> server.Server:
    """Preload and seal; where that fails, tell the clients that wait, and leave."""
    from warmfork._machine import role
    from warmfork._template import preload

    tracker = os.getppid()
    role.become_template(given.door, spec, (tracker, pids.read_since(tracker)))
    sys.argv = list(spec.argv)
    sys.path = list(spec.sys_path)
    stdio.prepare()
    folder = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    born = state.take_always_said()
    own = set(fds.list_fds())
    try:
        with stacks.Preloading(given.log):
            notes = preload.load_all(spec, board)
        kept = tuple(fd for fd in fds.list_fds() if fd not in own)
        seal.seal(spec, notes, folder, given.log)
        base = seal.give_back(born, notes)
    except preload.Failure as failure:
        module, cause = wire.fit(failure.module, 1000), wire.fit(failure.cause, 4000)
        refuse(control, client, messages.PreloadFailed(module, cause, wire.keep_end(failure.traceback)))
    except seal.Unsafe as unsafe:
        refuse(control, client, messages.Unsafe(tuple(wire.fit(finding, 1000) for finding in unsafe.findings[:20])))
    os.close(folder)
    if stacks.enable(given.stacks):
        kept += (given.stacks,)
    policy = spares.choose_policy(spec.spares, notes.notes)
    known = TemplateState(spec, board, given.generation, (*kept, number), policy, base)
    made = server.Server(known, given, control, make_idle)
    made.notes = tuple(wire.fit(note, 2000) for note in (*notes.notes, *made.idle.begin()))
    if client is not None:
        made.adopt(sockets.adopt_socket(client[0]), client[1], client[2])
    sockets.try_to_send(control, wire.encode(messages.Sealed(given.generation)))
    return made


def refuse(control: sockets.socket, client: tuple[int, int, int] | None, answer: messages.Message) -> NoReturn:
    """Give this answer to every client that waits, and end."""
    # First to the tracker: a client that asks again is to get another template.
    sockets.try_to_send(control, wire.encode(answer))
    if client is not None:
        answer_client(client[0], answer)
    while fds.wait_readable(control.fileno(), 0):
        with sockets.receive(control) as got:
            if not got.data:
                break
            if len(got.fds) == 2:
                answer_client(got.take().release(), answer)
    leave()


def answer_client(fd: int, answer: messages.Message) -> None:
    """Give a client its answer, if it still listens."""
    try:
        channel = sockets.adopt_socket(fd)
    except sockets.NoSocket:
        return
    sockets.try_to_send(channel, wire.encode(answer))
    channel.close()


def leave() -> NoReturn:
    """End through exit handlers: what the preload made (a Lock, a temporary folder) is removed by them."""
    try:
        ending.run_exit_handlers()
        stdio.flush()
    finally:
        os._exit(0)
