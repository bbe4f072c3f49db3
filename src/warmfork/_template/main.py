"""A template's life: launch, preload, seal, serve. Its children unwind to here before they run anything."""

from __future__ import annotations

import gc
import os
import sys
from time import monotonic_ns

from warmfork._child import ending
from warmfork._child.birth import become
from warmfork._machine import fds, memory, pids, signals, stacks, state, titles
from warmfork._template import forking, server
from warmfork._words import board as board_
from warmfork._words import messages, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from warmfork._words.spec import Spec


class Given:
    """What a template was given by its tracker: its generation, and fds."""

    __slots__ = ("board", "door", "generation", "log", "spec")

    def __init__(self, generation: int, spec: int, board: int, log: int, door: int) -> None:
        self.generation = generation
        self.spec, self.board, self.log, self.door = spec, board, log, door


def main(
    control: fds.socket,
    launched: tuple[int, ...] | None = None,
    client: tuple[int, int, int] | None = None,
) -> NoReturn:
    """Be a template, for the tracker at the other end of this socket.

    `launched` is what a Launch brings, where the tracker forked us.
    `client` is the channel, pid and pidfd of the first client; others come by Adopt.
    """
    # Before any preload can register its own: child handlers run in the order of registration.
    os.register_at_fork(after_in_child=forking.close_in_child)
    gc.disable()
    signals.set_mask(signals.HELPERS_BLOCK)
    given = Given(*(launched or receive_launch(control)))
    spec = read_spec(given.spec)
    os.ftruncate(given.board, board_.SIZE)
    given.board = state.move_high(given.board)  # which children have too: see _machine/stacks.py
    board = board_.Board(memory.map_shared(given.board, board_.SIZE), given.board)
    board.begin(given.generation, os.getpid(), monotonic_ns())
    titles.load()
    titles.set_title(f"warmfork: template {spec.name} gen={given.generation} [preloading]")
    made = prepare(spec, board, control, given, client)
    code = 1
    try:
        birth = made.serve()
        if birth is None:
            board.write_phase(board_.ENDING)
            leave()
        gc.enable()
        code = become(birth)
    except BaseException:
        # A fault of ours, or SystemExit from an at-fork handler: seen on stderr, and never back into the loop.
        sys.excepthook(*sys.exc_info())
    finally:
        ending.leave(code)


def receive_launch(control: fds.socket) -> tuple[int, ...]:
    """Receive what the tracker gives: see Given."""
    got = fds.receive(control, flags=fds.RECEIVE_BLOCKING)
    message = wire.decode(got.data)
    if not isinstance(message, messages.Launch) or len(got.fds) != 4:
        raise RuntimeError(f"a template starts with a Launch and 4 fds, not {message!r} and {len(got.fds)}")
    return message.generation, *got.fds


def read_spec(fd: int) -> Spec:
    """Read the spec from its memfd."""
    from warmfork._words.spec import Spec

    spec = wire.decode(fds.read_all(fd))
    if not isinstance(spec, Spec):
        raise RuntimeError(f"no spec but {spec!r}")
    return spec


def prepare(
    spec: Spec,
    board: board_.Board,
    control: fds.socket,
    given: Given,
    client: tuple[int, int, int] | None,
) -> server.Server:
    """Preload and seal; where that fails, tell the clients that wait, and leave."""
    from warmfork._machine import role
    from warmfork._template import preload, seal

    tracker = os.getppid()
    role.become_template(given.door, spec, (tracker, pids.read_since(tracker)))
    sys.argv = list(spec.argv)
    sys.path = list(spec.sys_path)
    if spec.huge_pages == "malloc":
        state.set_environment(state.split_environment(spec.environment))  # without what chose the allocator
    folder = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    own = set(fds.list_fds())
    try:
        notes = preload.load_all(spec, board)
        kept = tuple(fd for fd in fds.list_fds() if fd not in own)
        seal.seal(spec, notes, folder, given.log)
        blocks = seal.collapse(spec, notes)
    except preload.Failure as failure:
        refuse(control, client, messages.PreloadFailed(failure.module, failure.cause[:4000], failure.traceback))
    except seal.Unsafe as unsafe:
        refuse(control, client, messages.Unsafe(tuple(finding[:1000] for finding in unsafe.findings[:20])))
    os.close(folder)
    stacks.enable(board.file)
    made = server.Server(spec, board, given, control, kept)
    made.idle.blocks = blocks
    if made.policy != spec.spares:
        notes.notes.append("without spares: vm.overcommit_memory=2 charges each for the whole address space")
    made.notes = tuple(note[:2000] for note in notes.notes)
    if client is not None:
        made.adopt(fds.adopt_socket(client[0]), client[1], client[2])
    say(control, messages.Sealed(given.generation))
    return made


def say(control: fds.socket, message: messages.Message) -> None:
    """Tell the tracker, if it still lives."""
    try:
        fds.send(control, wire.encode(message))
    except (BrokenPipeError, ConnectionError):
        return


def refuse(control: fds.socket, client: tuple[int, int, int] | None, answer: messages.Message) -> NoReturn:
    """Give this answer to every client that waits, and end."""
    data = wire.encode(answer)
    say(control, answer)  # first to the tracker: a client that asks again is to get another template
    if client is not None:
        channel = fds.adopt_socket(client[0])
        fds.send(channel, data)
        channel.close()
    while fds.wait_readable(control.fileno(), 0):
        got = fds.receive(control)
        if not got.data:
            break
        if len(got.fds) == 2:
            channel = fds.adopt_socket(got.fds[0])
            fds.send(channel, data)
            channel.close()
            os.close(got.fds[1])
    leave()


def leave() -> NoReturn:
    """End through exit handlers: what the preload made (a Lock, a temporary folder) is removed by them."""
    try:
        ending.run_exit_handlers()
        ending.flush()
    finally:
        os._exit(0)
