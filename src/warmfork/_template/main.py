"""A template's life: launch, preload, seal, serve. Its children unwind to here before they run anything."""

from __future__ import annotations

import gc
import os
import sys
from time import monotonic_ns

from warmfork._child import ending
from warmfork._child.birth import become
from warmfork._machine import fds, memory, signals, titles
from warmfork._template import server
from warmfork._words import board as board_
from warmfork._words import messages, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from warmfork._words.spec import Spec


def main(control: fds.socket) -> NoReturn:
    """Be a template, for the tracker at the other end of this socket."""
    # Before any preload can register its own: child handlers run in the order of registration.
    os.register_at_fork(after_in_child=server.close_in_child)
    gc.disable()
    signals.set_mask(signals.HELPERS_BLOCK)
    got = fds.receive(control, flags=fds.RECEIVE_BLOCKING)
    launch = wire.decode(got.data)
    if not isinstance(launch, messages.Launch) or len(got.fds) != 4:
        raise RuntimeError(f"a template starts with a Launch and 4 fds, not {launch!r} and {len(got.fds)}")
    spec_fd, board_fd, log, door = got.fds
    spec = read_spec(spec_fd)
    os.close(spec_fd)
    board = board_.Board(memory.map_shared(board_fd, board_.SIZE))
    os.close(board_fd)
    board.begin(launch.generation, os.getpid(), monotonic_ns())
    titles.load()
    titles.set_title(f"warmfork: template {spec.name} gen={launch.generation} [preloading]")
    made = prepare(spec, board, control, log, door, launch.generation)
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


def read_spec(fd: int) -> Spec:
    """Read the spec from its memfd."""
    from warmfork._words.spec import Spec

    spec = wire.decode(fds.read_all(fd))
    if not isinstance(spec, Spec):
        raise RuntimeError(f"no spec but {spec!r}")
    return spec


def prepare(
    spec: Spec, board: board_.Board, control: fds.socket, log: int, door: int, generation: int
) -> server.Server:
    """Preload and seal; where that fails, tell the clients that wait, and leave."""
    from warmfork._machine import role
    from warmfork._template import preload, seal

    role.become_template(door, spec)
    sys.argv = list(spec.argv)
    sys.path = list(spec.sys_path)
    folder = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    own = set(fds.list_fds())
    try:
        notes = preload.load_all(spec, board)
        kept = tuple(fd for fd in fds.list_fds() if fd not in own)
        seal.seal(spec, notes, folder, log)
    except preload.Failure as failure:
        refuse(control, messages.PreloadFailed(failure.module, failure.cause[:4000], failure.traceback))
    except seal.Unsafe as unsafe:
        refuse(control, messages.Unsafe(tuple(finding[:1000] for finding in unsafe.findings[:20])))
    os.close(log)
    os.close(folder)
    made = server.Server(spec, board, generation, control, kept)
    made.notes = tuple(note[:2000] for note in notes.notes)
    fds.send(control, wire.encode(messages.Sealed(generation)))
    return made


def refuse(control: fds.socket, answer: messages.Message) -> NoReturn:
    """Give this answer to every client that waits, and end."""
    data = wire.encode(answer)
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
