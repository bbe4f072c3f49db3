"""Starting a tree: the tracker, its door, and the hello by which a process gets a channel to a template."""

from __future__ import annotations

import os
import sys

from warmfork._client import spawn
from warmfork._machine import fds, memory, pids, platform, state
from warmfork._machine import streams as streams_
from warmfork._words import ledger as ledger_
from warmfork._words import messages, wire
from warmfork._words.errors import StartError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from warmfork._words.spec import Spec


class Tree:
    """What the root of a tree holds: both ends of the door, the ledger, and its tracker. So whatever is said at the door
    or written in the ledger outlives the tracker."""

    def __init__(self, interpreter: spawn.Interpreter) -> None:
        self.pidfd = state.move_high(pids.open_pidfd(interpreter.pid))
        self.tracker = interpreter.pid
        self.made_of = interpreter.made_of
        self.door = fds.adopt_socket(state.move_high(interpreter.door.detach()))
        self.receiver = state.move_high(interpreter.receiver.detach())
        self.ledger = state.move_high(interpreter.ledger)
        self.identities = fds.identify(self.receiver), fds.identify(self.ledger)
        self.read = 0  # how far the ledger's reports were read
        self.size = 0  # how long it was then

    def is_ours(self) -> bool:
        """Do these fds still mean what they did? The program may have closed all, and reused the numbers (M9)."""
        return fds.is_still(self.receiver, self.identities[0]) and fds.is_still(self.ledger, self.identities[1])

    def has_tracker(self) -> bool:
        """Does the tracker that we started live, or a successor that a template has started?"""
        return not fds.wait_readable(self.pidfd, 0) or memory.read_lock_holder(self.ledger) != 0

    def reap(self) -> None:
        """Reap the tracker that we started, if it is dead: a template may have started its successor."""
        if self.tracker:
            try:
                if os.waitpid(self.tracker, os.WNOHANG)[0]:
                    self.tracker = 0
            except ChildProcessError:  # somebody else reaped it (row 35)
                self.tracker = 0

    def start_successor(self) -> None:
        """Start a successor of the dead tracker; it finds what that knew in the ledger. Raises OSError."""
        self.reap()
        os.close(self.pidfd)
        self.tracker = spawn.spawn(*self.made_of, self.receiver, self.ledger)
        self.pidfd = state.move_high(pids.open_pidfd(self.tracker))

    def take_reports(self) -> list[messages.Reported]:
        """Give what the tracker has reported since the last time."""
        size = os.fstat(self.ledger).st_size
        if size == self.size:
            return []
        self.size = size
        start = max(int.from_bytes(os.pread(self.ledger, 8, 0), "little") or ledger_.START, self.read)
        data = os.pread(self.ledger, max(0, size - start), start)
        found = []
        self.read = start
        for end, record in ledger_.read_records(data):
            self.read = start + end
            if isinstance(record, messages.Reported):
                found.append(record)
        return found

    def close(self) -> None:
        """Let go of all of it, where it is still ours."""
        if self.is_ours():
            os.close(self.receiver)
            os.close(self.ledger)


def get_program_name() -> str:
    """Give what a user would call this program."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name and spec.name != "__main__":
        return str(spec.name).removesuffix(".__main__")
    script = sys.argv[0] if sys.argv else ""
    return os.path.basename(script).removesuffix(".py") or "python" if script not in ("", "-", "-c") else "python"


def launch_tracker(executable: str, flags: tuple[str, ...], environment: tuple[str, ...], prefix: str) -> Tree:
    """Start a tracker. Raises StartError, with nothing left behind, and UnsupportedPlatform."""
    platform.check()
    if not executable:
        raise StartError("launch", "sys.executable is not set: this program must say which interpreter to start")
    try:
        interpreter = spawn.get_interpreter(executable, flags, state.split_environment(environment))
        try:
            me = os.getpid()
            fds.send(
                interpreter.door,
                wire.encode(messages.Root(me, pids.read_since(me), wire.fit(get_program_name(), 1000), prefix)),
            )
            return Tree(interpreter)
        except BaseException:
            interpreter.discard()
            raise
    except OSError as error:
        raise StartError("launch", f"{executable}: {error.strerror}") from error


def say_hello(door: fds.socket, spec: Spec, failed: bool) -> fds.socket:
    """Ask the tracker for a channel to the template of this spec. Raises OSError where the tracker is gone."""
    channel, theirs = fds.make_pair()
    given: list[int] = []
    streams = streams_.list_open()
    message = messages.Hello(os.getpid(), int(failed), sum(streams))
    try:
        given.append(pids.open_pidfd(os.getpid()))
        given.append(write_spec(spec))
        fds.send_within(door, wire.encode(message), [theirs.fileno(), *given, door.fileno(), *streams])
    except BaseException:
        channel.close()
        raise
    finally:
        theirs.close()
        fds.close_all(given)
    return fds.adopt_socket(state.move_high(channel.detach()))


def write_spec(spec: Spec) -> int:
    """Write a spec to a memfd. Raises StartError."""
    data = wire.encode(spec, largest=1 << 30)
    try:
        with state.LiftedFileLimit():
            return fds.make_memory("warmfork-spec", data)
    except OSError as error:
        what = f"no room for {len(data):,} bytes that a template has to know (environment, paths): {error.strerror}"
        limit = ": raise the limit of the size of files (ulimit -f)" if state.is_file_limited() else ""
        raise StartError("launch", what + limit) from error


def ask_fate(door: fds.socket, pid: int, timeout: float) -> messages.Fate | None:
    """Ask the tracker what became of an orphan, waiting until it is dead. None: it does not know, or is gone."""
    answer = ask(door, messages.Ask(pid), timeout)
    return answer if isinstance(answer, messages.Fate) and answer.known else None


def give_up(door: fds.socket, spec: Spec, timeout: float) -> str:
    """Have a template ended that hangs in its preload, and give the item that it hangs in ("": nobody knows)."""
    spec_fd = write_spec(spec)
    try:
        answer = ask(door, messages.GiveUp(), timeout, (spec_fd,))
    finally:
        os.close(spec_fd)
    return answer.preloading if isinstance(answer, messages.Died) else ""


def ask(
    door: fds.socket, question: messages.Message, timeout: float, passed: tuple[int, ...] = ()
) -> messages.Message | None:
    """Send a question through the door with a socket for the answer, after other fds, and wait for that."""
    ours, theirs = fds.make_pair()
    try:
        try:
            fds.send_within(door, wire.encode(question), (*passed, theirs.fileno()))
        finally:
            theirs.close()
        if not fds.wait_readable(ours.fileno(), timeout):
            return None
        got = fds.receive(ours)
        fds.close_all(got.fds)
        return wire.decode(got.data) if got.data else None
    except OSError:
        return None
    finally:
        ours.close()
