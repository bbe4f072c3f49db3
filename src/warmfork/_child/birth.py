"""From fork to the user's function, in order.

Runs in the child. Each step is a function; STEPS is the order, and the board, the failure report and the tests read it.
A step may fail, and then the client learns which. Nothing here returns to the server's loop.
"""

from __future__ import annotations

import _signal
import os
import sys
from _stat import S_ISCHR, S_ISREG
from time import monotonic_ns

from warmfork._child import ending, reseeding
from warmfork._machine import fds, role, signals, state, titles
from warmfork._words import feed, messages, wire
from warmfork._words.board import encode_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from warmfork._words.board import Board
    from warmfork._words.spec import Spec


class Birth:
    """A child on its way: what it was forked with, and what it was fed."""

    __slots__ = (
        "base", "board", "buffers", "client", "door", "fds", "keep", "leave", "life", "parent", "payload", "slot",
        "socket", "spec", "state", "step", "watch",
    )  # fmt: skip

    def __init__(self, socket: fds.socket, board: Board, slot: int, base: tuple[Any, ...], spec: Spec) -> None:
        self.socket = socket
        self.board = board
        self.slot = slot
        self.base = base
        self.spec = spec
        self.step = "forked"
        self.state: dict[str, Any] = {}
        self.payload: bytes | memoryview = b""
        self.buffers: list[memoryview] = []
        self.fds: list[int] = []
        self.parent = -1
        self.door = -1
        self.client = 0  # of a spare: the pid of its client
        self.leave = -1  # of a spare: an fd that tells it to leave
        self.watch = -1  # of a spare: a pidfd on its client
        self.life: float | None = None  # of a spare: seconds after which it leaves if nobody takes it
        self.keep: object = None  # the server: its sockets were closed by number, their destructors must never run

    def announce(self, message: messages.Message, passed: tuple[int, ...] = ()) -> None:
        """Tell the client, if it still listens."""
        try:
            fds.send_within(self.socket, wire.encode(message), passed)
        except OSError:
            return  # the client is gone, or no longer interested: whoever it was for can't be reached

    def finish_becoming(self) -> None:
        """Tell the client that the payload is unpickled; from here on it is the user's function that runs."""
        self.announce(messages.Became())
        self.board.write_step(self.slot, RUNNING, monotonic_ns())


def receive_feed(birth: Birth) -> None:
    """Wait for state, fds and payload from the client. Its end of the feed closed before that: nobody wants us."""
    if birth.client:
        wait_as_spare(birth)
    got = fds.receive(birth.socket, fds.ANCILLARY, fds.RECEIVE_BLOCKING)
    if not got.data:
        ending.leave(0)
    check_whole(got)
    if birth.client:
        drop_signals(birth.client)
    state_size, payload_size, count, spilled = feed.split(got.data)
    passed = got.fds
    while len(passed) < count:
        more = fds.receive(birth.socket, fds.ANCILLARY, fds.RECEIVE_BLOCKING)
        if not more.data:
            os._exit(0)
        check_whole(more)
        passed += more.fds
    start = feed.HEADER.size
    content = memoryview(got.data)[start:]
    if spilled:
        memory = passed.pop(0)
        content = memoryview(fds.read_all(memory, state_size + payload_size))
        os.close(memory)
    birth.state = feed.read_state(content[:state_size].tobytes())
    birth.payload = content[state_size : state_size + payload_size]
    birth.fds = passed
    if birth.client:
        take_policy(birth)


def take_policy(birth: Birth) -> None:
    """Write on the board what this spare is now: the template may never hear of it, for it or the client may die before.
    First the board, then a look at the client: so either we see its death, or who acts on that sees our policy."""
    kill = int(birth.state["kill"])
    birth.board.write_child(birth.slot, kill, encode_name(birth.state["name"]))
    if kill and fds.wait_readable(birth.watch, 0):
        ending.leave(0)
    os.close(birth.watch)


def check_whole(got: fds.Received) -> None:
    """Raise OSError where fds of this message did not arrive: nobody sends them again, and waiting would be for ever."""
    if got.cut:
        fds.close_all(got.fds)
        raise OSError(EMFILE, "fds that were sent did not arrive: raise the limit of open files (ulimit -n)")


EMFILE = 24


def wait_as_spare(birth: Birth) -> None:
    """Wait until somebody takes this spare, or its life is over, or memory is short, or its client is dead: the end of
    its feed is no sign of that, for a fork of the client may hold it open (M1)."""
    number = birth.socket.fileno()
    ready = fds.list_readable((number, birth.leave, birth.watch), birth.life)
    os.close(birth.leave)
    if number not in ready:
        # Whoever takes us from here on is told so by its send; whoever was quicker is served all the same.
        birth.socket.shutdown(fds.SHUT_RD)


def drop_signals(client: int) -> None:
    """Drop what was sent to a spare while it waited, ^C to its group above all: it was not meant for the child that it
    becomes (M12). What its client sent is: a client knows of it only since it took it."""
    kept = []
    while True:
        found = _signal.sigtimedwait(signals.HELPERS_BLOCK, 0)
        if found is None:
            break
        if found.si_pid == client:
            kept.append(found.si_signo)
    for number in kept:
        os.kill(os.getpid(), number)


def take_fds(birth: Birth) -> None:
    """Sort the fds: the client's pidfd, the door, stdio, the working directory; the rest is the payload's."""
    layout = birth.state["fds"]
    passed = birth.fds
    birth.parent = passed.pop(0)
    if layout & feed.HAS_DOOR:
        birth.door = passed.pop(0)
    role.become_child(birth.door, birth.parent)
    for number, bit in STDIO:
        if layout & bit:
            received = passed.pop(0)
            os.dup2(received, number)
            os.close(received)
        elif number:  # stdin is /dev/null already: the template's
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            os.dup2(null, number)
            os.close(null)
    if layout & feed.HAS_CWD:
        folder = passed.pop(0)
        os.fchdir(folder)
        os.close(folder)
    if layout & feed.HAS_IN and sys.stdin is not None:
        # The template's was made for /dev/null, and remembers whether it can seek.
        _kept.append(sys.stdin)
        sys.stdin = open(0, encoding=sys.stdin.encoding, errors=sys.stdin.errors, closefd=False)  # noqa: SIM115
        sys.__stdin__ = sys.stdin  # type: ignore[misc]
    refresh_stdio()


STDIO = ((0, feed.HAS_IN), (1, feed.HAS_OUT), (2, feed.HAS_ERR))


def refresh_stdio() -> None:
    """Fit sys.stdout and sys.stderr, built in the template, to the files that they now write to."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None or not hasattr(stream, "reconfigure"):
            continue
        mode = os.fstat(number).st_mode
        if S_ISREG(mode):
            # A buffer remembers whether its file can seek, and where it was.
            new = open(number, "w", encoding=stream.encoding, errors=stream.errors, closefd=False)  # noqa: SIM115
            if number == 2:
                new.reconfigure(line_buffering=True)
            setattr(sys, name, new)
            setattr(sys, f"__{name}__", new)
            # The old object must not be closed: closing writes, and closes our number.
            _kept.append(stream)
        elif number == 1:
            terminal = S_ISCHR(mode) and os.isatty(1)
            if terminal != stream.line_buffering:
                stream.reconfigure(line_buffering=terminal)


_kept: list[object] = []


def apply_state(birth: Birth) -> None:
    """Environment, argv, sys.path, umask, nice, affinity, scheduler, limits, group: as they are at start()."""
    state.apply(birth.state, birth.base)


def take_buffers(birth: Birth) -> None:
    """The large parts of the payload, which the client writes to memory that is made for them here."""
    if "buffers" in birth.state:
        from warmfork._child import large

        large.fill(birth)


def take_identity(birth: Birth) -> None:
    """The title that ps shows."""
    titles.set_title(f"warmfork: {birth.state['name']} {birth.spec.name}")


def reseed(birth: Birth) -> None:
    """Give this child its own random numbers."""
    reseeding.reseed()


def set_signals(birth: Birth) -> None:
    """The client's ignored signals, and at last its signal mask: from here on signals are taken."""
    state.set_signals(birth.state, birth.base)


def find_entry(birth: Birth) -> Callable[[Birth], int]:
    """Import what takes it from here: it unpickles the payload and runs the user's function."""
    name = birth.state["entry"]
    found: Callable[[Birth], int] | None = _entries.get(name)
    if found is None:
        module, _, function = name.partition(":")
        __import__(module)
        found = _entries[name] = getattr(sys.modules[module], function)
    return found


_entries: dict[str, Callable[[Birth], int]] = {}


STEPS: tuple[tuple[str, Callable[[Birth], Any]], ...] = (
    # First what needs nothing from the client: it runs while the client learns that we exist.
    ("reseed", reseed),
    ("feed", receive_feed),
    ("stdio", take_fds),
    ("state", apply_state),
    ("buffers", take_buffers),
    ("identity", take_identity),
    ("signals", set_signals),
    ("entry", find_entry),
)
"""Before them the template forked and closed; after them the entry unpickles the payload and runs the function."""

PAYLOAD, RUNNING = len(STEPS), len(STEPS) + 1
"""What the board shows after the last step: the payload, which may import all of the user's program, and the function."""


def name_step(number: int) -> str:
    """Give the name of a step, as the board has it in numbers."""
    return ("fork", *(name for name, _ in STEPS), "payload", "running")[number + 1]


def become(birth: Birth) -> int:
    """Take the steps, then run the entry. Gives the exit code."""
    entry: Callable[[Birth], int] | None = None
    try:
        for number, (name, step) in enumerate(STEPS):
            birth.step = name
            birth.board.write_step(birth.slot, number, monotonic_ns())
            entry = step(birth)
    except BaseException as error:
        fail(birth, error)
        # Who has no result to ask for, as a multiprocessing.Process, reads it on stderr: the client's since "stdio".
        sys.excepthook(*sys.exc_info())
        return 1
    birth.step = "payload"
    birth.board.write_step(birth.slot, PAYLOAD, monotonic_ns())
    if entry is None:
        raise RuntimeError("the last step of birth gives the entry")
    return entry(birth)


def fail(birth: Birth, error: BaseException) -> None:
    """Tell the client in which step this child failed."""
    from traceback import format_exception

    text = "".join(format_exception(error))
    cause = f"{type(error).__name__}: {error}"
    birth.announce(messages.BirthFailed(step=birth.step, cause=cause[:2000], traceback=wire.keep_end(text)))
