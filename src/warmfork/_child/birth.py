"""From fork to the user's function, in order.

Runs in the child. Each step is a function; STEPS is the order, and the board, the failure report and the tests read it.
A step may fail, and then the client learns which. Nothing here returns to the server's loop.
"""

from __future__ import annotations

import os
import sys
from time import monotonic_ns

from warmfork._child import ending, reseeding, stdio
from warmfork._machine import fds, memfds, role, signals, sockets, state, titles
from warmfork._words import board as board_
from warmfork._words import feed, messages, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from warmfork._words.board import Board
    from warmfork._words.spec import Spec


class Birth:
    """A child on its way: what it was forked with, and what it was fed."""

    __slots__ = (
        "base", "board", "buffers", "client", "door", "fds", "identity", "ids", "keep", "leave", "life", "parent", "payload",
        "signals", "slot", "socket", "spec", "state", "step", "watch",
    )  # fmt: skip

    def __init__(self, socket: sockets.socket, board: Board, slot: int, base: tuple[Any, ...], spec: Spec) -> None:
        self.socket = socket
        self.identity = fds.identify(socket.fileno())
        self.board = board
        self.slot = slot
        self.base = base
        self.spec = spec
        self.ids = role.ids  # whose feed is taken
        self.step = "forked"
        self.state: dict[str, Any] = {}
        self.payload: bytes | memoryview = b""
        self.buffers: list[memoryview] = []
        self.fds: list[int] = []
        self.parent = -1
        self.door = -1
        self.client = 0  # of a spare: the pid of its client
        self.leave = -1  # of a spare: an fd that tells it to leave
        self.signals = -1  # of a spare: an fd that tells that a signal waits
        self.watch = -1  # of a spare: a pidfd on its client
        self.life: float | None = None  # of a spare: seconds after which it leaves if nobody takes it
        self.keep: object = None  # the server: its sockets were closed by number, their destructors must never run

    def announce(self, message: messages.Message, passed: tuple[int, ...] = ()) -> None:
        """Tell the client, if it still listens, and the user's function has not closed the feed with all other fds: its
        number may be somebody else's then."""
        if not fds.is_still(self.socket.fileno(), self.identity):
            return
        try:
            sockets.send_within(self.socket, wire.encode(message), passed)
        except OSError:
            return  # the client is gone, or no longer interested: whoever it was for can't be reached

    def finish_becoming(self) -> None:
        """Tell the client that the payload is unpickled; from here on it is the user's function that runs."""
        self.announce(messages.Became())


def receive_feed(birth: Birth) -> None:
    """Wait for state, fds and payload from the client. Its end of the feed closed before that: nobody wants us."""
    ending.note_mapped(board_.SIZE)  # now: a spare has the time
    if birth.client:
        wait_as_spare(birth)
    got = receive_whole(birth.socket, birth.ids)
    if not got.data:
        ending.leave(0)
    state_size, payload_size, count, flags = feed.split(got.data)
    passed = got.fds
    while len(passed) < count:
        more = receive_whole(birth.socket, birth.ids)
        if not more.data:
            os._exit(ending.UNFED)
        passed += more.fds
    start = feed.HEADER.size
    content = memoryview(got.data)[start:]
    if flags & feed.SPILLED:
        memory = passed.pop(0)
        content = memoryview(memfds.read_all(memory, state_size + payload_size))
        os.close(memory)
    elif flags & feed.FOLLOWS:
        content = memoryview(receive_pieces(birth, state_size + payload_size))
    sockets.ask_for_no_credentials(birth.socket)
    birth.state = feed.read_state(content[:state_size].tobytes())
    birth.payload = content[state_size : state_size + payload_size]
    birth.fds = passed
    if birth.client:
        take_policy(birth)


def take_policy(birth: Birth) -> None:
    """Write on the board what this spare is now: the template may never hear of it, for it or the client may die before.
    First the board, then a look at the client: so either we see its death, or who acts on that sees our policy.

    It waited in a process group of its own, with all signals blocked. What is sent to it from the feed's coming on, by
    whomever, waits until it has its client's dispositions; what was sent to it before has ended it; what was sent to the
    client's group before was never for it."""
    state.set_group(birth.state["small"][state.GROUP], birth.base[state.GROUP])
    kill = int(birth.state["kill"])
    birth.board.write_child(birth.slot, kill, board_.encode_name(birth.state["name"]))
    if kill and fds.wait_readable(birth.watch, 0):
        ending.leave(ending.UNFED)
    os.close(birth.watch)


def receive_whole(socket: sockets.socket, ids: tuple[int, int]) -> sockets.Received:
    """Wait for a message of the feed, from this user and group: who has become another one since he asked for us sends none,
    unless somebody has taken him over. Raises OSError where fds of it did not arrive: nobody sends them again, and waiting
    would be for ever."""
    # Not by a call that blocks: what the program does to sockets (a default time-out) may have reached this one.
    while True:
        fds.wait_readable(socket.fileno(), None)
        try:
            got = sockets.receive(socket)
        except BlockingIOError:
            continue  # a fork of the client's, which has the other end, is none of our business; nor is a spurious wake
        if got.cut:
            got.close()
            raise OSError(
                EMFILE, "files that were sent to the child did not arrive: raise the limit of open files (ulimit -n)"
            )
        if got.data and (got.uid, got.gid) != ids:
            os._exit(ending.UNFED)
        return got


def receive_pieces(birth: Birth, size: int) -> bytes:
    """Receive so many bytes, in as many messages as they come in."""
    parts = []
    while size > 0:
        part = receive_whole(birth.socket, birth.ids).data
        if not part:
            os._exit(ending.UNFED)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


EMFILE = 24


def wait_as_spare(birth: Birth) -> None:
    """Wait until somebody takes this spare, or its life is over, or memory is short, or its client is dead: the end of
    its feed is no sign of that, for a fork of the client may hold it open (M1).

    A signal that comes before the feed is for the spare, and ends it as it ends any process; no handler of the preload's
    is called. One that comes with the feed may have been sent after start() had returned: it is for the child."""
    number = birth.socket.fileno()
    told = (birth.signals,) if birth.signals >= 0 else ()
    ready = fds.list_readable((number, birth.leave, birth.watch, *told), birth.life)
    while ready and ready == list(told):
        signals.take_waiting()
        ready = fds.list_readable((number, birth.leave, birth.watch, *told), birth.life)
    fds.close_all((birth.leave, *told))
    if number not in ready:
        # Whoever takes us from here on is told so by its send; whoever was quicker is served all the same.
        birth.socket.shutdown(sockets.SHUT_RD)


def take_fds(birth: Birth) -> None:
    """Sort the fds: the client's pidfd, the door, stdio, the working directory; the rest is the payload's."""
    layout = birth.state["fds"]
    passed = birth.fds
    birth.parent = passed.pop(0)
    if layout & feed.HAS_DOOR:
        birth.door = passed.pop(0)
    role.become_child(birth.door)
    stdio.take(layout, passed)
    if layout & feed.HAS_CWD:
        folder = passed.pop(0)
        os.fchdir(folder)
        os.close(folder)


def apply_state(birth: Birth) -> None:
    """Environment, argv, sys.path, umask, nice, affinity, scheduler, limits, group: as they are at start()."""
    state.apply(birth.state, birth.base)


def take_buffers(birth: Birth) -> None:
    """The large parts of the payload, which the client writes to memory that is made for them here."""
    if "buffers" in birth.state:
        from warmfork._child import large

        large.fill(birth)
        ending.note_mapped(board_.SIZE)


def take_identity(birth: Birth) -> None:
    """The title that ps shows, and the key by which a Manager knows that it is asked by one of its program's."""
    titles.set_title(f"warmfork: {birth.state['name']} {birth.spec.name}")
    if "key" in birth.state:
        __import__(MANAGED_BY)  # mostly there; not in a spare that is older than the client's own import
        sys.modules[MANAGED_BY].current_process().authkey = birth.state["key"]


MANAGED_BY = "multiprocessing.process"


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

PAYLOAD = len(STEPS)
"""What the board shows after the last step: from the payload on, which may import all of the user's program, user code
runs, and the child has no access to the board any longer."""


def name_step(number: int) -> str:
    """Give the name of a step, as the board has it in numbers; "?" where it can't have such a number."""
    names = ("fork", *(name for name, _ in STEPS), "payload")
    return names[number + 1] if -1 <= number < len(names) - 1 else "?"


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
    birth.board.memory.close()
    if entry is None:
        raise RuntimeError("the last step of starting a child has to give its function")
    return entry(birth)


def fail(birth: Birth, error: BaseException) -> None:
    """Tell the client in which step this child failed."""
    cause = f"{type(error).__name__}: {error}"
    try:
        from traceback import format_exception

        text = "".join(format_exception(error))
    except (ImportError, OSError):  # it failed for want of files, and so does what would tell more
        text = cause
    birth.announce(messages.BirthFailed(birth.step, wire.fit(cause, 2000), wire.keep_end(text)))
