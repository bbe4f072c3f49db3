"""Starting a tree: the tracker, its door, and the hello by which a process gets a channel to a template."""

from __future__ import annotations

import os
import sys
from posix import getpid
from select import POLLRDHUP, poll
from time import monotonic

from warmfork._client import spawn
from warmfork._machine import fds, memfds, pids, platform, sockets, state
from warmfork._machine import streams as streams_
from warmfork._words import ledger as ledger_
from warmfork._words import messages, protocol, wire
from warmfork._words.errors import StartError
from warmfork._words.outcome import read_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from warmfork._client.client import Client
    from warmfork._words.spec import Spec


QUICK, MOST_QUICK = 2.0, 3
"""So many trackers in a row that live for less than so many seconds are the last that is started: each will end so."""

KEPT_BOARDS = 8
"""Boards of dead templates that are kept for a successor."""


class Tree:
    """What the root of a tree holds: both ends of the door, the ledger, and its tracker. So whatever is said at the door
    or written in the ledger outlives the tracker, and this process alone starts another."""

    def __init__(self, interpreter: spawn.Interpreter) -> None:
        self.made_of = interpreter.made_of
        self.watch(interpreter.pid)
        self.door = sockets.adopt_socket(state.move_high(interpreter.door.detach()))
        self.receiver = fds.Fd(state.move_high(interpreter.receiver.detach()))
        self.own = sockets.adopt_socket(state.move_high(interpreter.own.detach()))
        self.own_receiver = fds.Fd(state.move_high(interpreter.own_receiver.detach()))
        self.ledger = fds.Fd(state.move_high(interpreter.ledger.release()))
        self.identities = self.identify()
        self.read = 0  # how far the ledger's reports were read
        self.size = 0  # how long it was then
        self.heard = 0  # the number of the last report that was read
        self.successions = 0
        self.ends: list[float] = []  # when trackers have died that had lived for a moment
        self.left: list[tuple[messages.Inherit, fds.Fd, fds.Fd]] = []  # dead templates: pidfd, board

    def watch(self, pid: int) -> None:
        """This is our tracker. Raises OSError."""
        self.pidfd = fds.Fd(state.move_high(pids.open_pidfd(pid)))
        self.pidfd_identity = pid, fds.identify(self.pidfd.fileno())
        self.tracker, self.started = pid, monotonic()

    def is_watched(self) -> bool:
        """Is there a tracker whose end we would see? Of a pidfd older kernels do not tell which one it is: see is_ours()."""
        return fds.is_still(self.pidfd.fileno(), self.pidfd_identity[1])

    def is_ours(self) -> bool:
        """Do these fds still mean what they did? The program may have closed all, and reused the numbers."""
        try:
            return self.identify() == self.identities
        except OSError:
            return False

    def identify(self) -> tuple[tuple[int, int], ...]:
        """Give what our fds mean. Raises OSError where one is closed."""
        return tuple(fds.identify(fd.fileno()) for fd in (self.receiver, self.ledger, self.own, self.own_receiver))

    def is_door_shut(self) -> bool:
        """Has somebody who has the door shut it down? That is its end, for all who have it."""
        look = poll()
        look.register(self.receiver.fileno(), POLLRDHUP)
        return bool(look.poll(0))

    def renew_door(self) -> sockets.socket:
        """Make another door in its place, hand it to the tracker, and give it. Raises StartError."""
        try:
            door, receiver = sockets.make_pair()
            sockets.ask_for_credentials(receiver)
            sockets.send_within(self.own, wire.encode(messages.Door()), (receiver.fileno(),))
        except OSError as error:
            what = "the socket on which processes reach the tracker is shut, and there can be no other"
            raise make_error(what, error) from error
        self.door.close()
        self.receiver.close()
        self.door = sockets.adopt_socket(state.move_high(door.detach()))
        self.receiver = fds.Fd(state.move_high(receiver.detach()))
        self.identities = self.identify()
        return self.door

    def has_tracker(self) -> bool:
        """Does the tracker live?"""
        return bool(self.pidfd) and not fds.wait_readable(self.pidfd.fileno(), 0)

    def is_hopeless(self) -> bool:
        """Have the last trackers all ended at once?"""
        return len(self.ends) >= MOST_QUICK

    def reap(self) -> None:
        """Reap the dead tracker, and note how long it has lived."""
        if self.tracker:
            self.ends = [*self.ends[-MOST_QUICK:], monotonic()] if monotonic() - self.started < QUICK else []
            tracker, self.tracker = self.tracker, 0
            self.pidfd.close()
            try:
                os.waitpid(tracker, 0)
            except ChildProcessError:  # somebody else reaped it
                return

    def start_successor(self) -> None:
        """Start a successor of the dead tracker; it finds what that knew in the ledger. Raises StartError, and may be
        called again."""
        self.reap()
        executable = self.made_of[0]
        try:
            if self.is_hopeless():
                status, said = spawn.diagnose(*self.made_of)
                if status:
                    raise StartError(
                        "launch", f"the tracker ended at once, {len(self.ends)} times: {read_status(status)}\n{said}"
                    )
                self.ends.clear()
            pid = spawn.spawn(*self.made_of, self.receiver.fileno(), self.ledger.fileno(), self.own_receiver.fileno())
        except OSError as error:
            raise make_error(f"the tracker is dead, and another could not be started: {executable}", error) from error
        self.tracker, self.started = pid, monotonic()
        try:
            self.watch(pid)
        except OSError as error:
            os.kill(pid, 9)
            self.reap()
            raise make_error("the tracker can't be watched", error) from error
        self.successions += 1
        for template, pidfd, board in self.left:
            self.hand_over(template, pidfd.fileno(), board.fileno())

    def keep(self, template: messages.Inherit, pidfd: fds.Fd, board: fds.Fd) -> None:
        """Keep what tells of the children of a template that is dead, for a successor."""
        self.left.append((template, pidfd, board))
        if len(self.left) > KEPT_BOARDS:
            _, pidfd, board = self.left.pop(0)
            pidfd.close()
            board.close()

    def hand_over(self, template: messages.Inherit, pidfd: int, board: int) -> None:
        """Tell a successor of a template that it has not started. Where it is dead already, the next one is told."""
        try:
            sockets.send_within(self.door, wire.encode(template), (pidfd, board))
        except OSError:
            return

    def take_reports(self) -> list[messages.Reported]:
        """Give what the tracker has reported since the last time."""
        ledger = self.ledger.fileno()
        size = os.fstat(ledger).st_size
        if size == self.size:
            return []
        self.size = size
        start = max(int.from_bytes(os.pread(ledger, 8, 0), "little") or ledger_.START, self.read)
        data = os.pread(ledger, max(0, size - start), start)
        found = []
        self.read = start
        for end, record in ledger_.read_records(data):
            self.read = start + end
            if isinstance(record, messages.Reported) and record.number > self.heard:
                self.heard = record.number
                found.append(record)
        return found

    def close(self) -> None:
        """Let go of all of it, where it is still ours."""
        ours = self.is_ours()
        for fd in (self.receiver, self.ledger, self.own_receiver):
            fd.close() if ours else fd.release()
        self.own.close() if ours else self.own.detach()
        number, identity = self.pidfd.fileno(), self.pidfd_identity[1]
        self.pidfd.close() if fds.is_still(number, identity) else self.pidfd.release()
        for _, pidfd, board in self.left:
            for fd in (pidfd, board):
                fd.close() if ours else fd.release()
        self.left.clear()


def make_error(what: str, error: OSError) -> StartError:
    """Make the error for what the kernel has refused."""
    return StartError("launch", f"{what}: {error.strerror}", error.errno)


def get_own_interpreter() -> tuple[str, tuple[str, ...]]:
    """Give this interpreter's executable and its options."""
    return sys.executable or "", spawn.get_flags()


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
    try:
        platform.check()
    except OSError as error:  # too many files, or too little memory, to find out what this system has
        raise make_error(executable, error) from error
    if not executable:
        raise StartError("launch", "sys.executable is not set: this program must say which interpreter to start")
    if not spawn.has_start():
        raise StartError(
            "launch",
            f"warmfork is in {spawn.START.rpartition('/warmfork/')[0]}, which is no folder (a zip file, a zipapp?), and "
            "no interpreter can be started with a file that is in there: have it installed as files",
        )
    try:
        interpreter = spawn.get_interpreter(executable, flags, state.split_environment(environment))
        try:
            begin_ledger(interpreter.ledger.fileno(), prefix)
            return Tree(interpreter)
        except BaseException:
            interpreter.discard()
            raise
    except OSError as error:
        raise make_error(executable, error) from error


def begin_ledger(ledger: int, prefix: str) -> None:
    """Write down whose tree it is, before anything is said at the door: whoever becomes its tracker finds it there. Raises
    OSError."""
    me = getpid()
    root = messages.Root(me, pids.read_since(me), wire.fit(get_program_name(), 1000), prefix)
    with state.LiftedFileLimit():
        memfds.write_all(ledger, ledger_.write_record(root), ledger_.START)


def say_hello(door: sockets.socket, spec: Spec, failed: bool) -> sockets.socket:
    """Ask the tracker for a channel to the template of this spec. Raises OSError where the tracker is gone."""
    streams = streams_.list_open()
    message = messages.Hello(getpid(), int(failed), sum(streams))
    with fds.Fd(pids.open_pidfd(getpid())) as me, make_spec(spec) as wanted:
        channel, theirs = sockets.make_pair()
        try:
            passed = [theirs.fileno(), me.fileno(), wanted.fileno(), door.fileno(), *streams]
            sockets.send_within(door, wire.encode(message), passed)
            return sockets.adopt_socket(state.move_high(channel.detach()))
        finally:
            channel.close()
            theirs.close()


def make_spec(spec: Spec) -> fds.Fd:
    """Make the memfd that a spec is handed over in. Raises StartError."""
    data = wire.encode(spec, largest=1 << 30)
    try:
        with state.LiftedFileLimit():
            return fds.Fd(memfds.make_memory("warmfork-spec", data))
    except OSError as error:
        what = f"no room for {len(data):,} bytes that a template has to know (environment, paths)"
        raise make_error(what, error) from error


def open_folder(kind: str, name: str) -> list[fds.Fd]:
    """Open the folder that a file or a folder is in, for the tracker to remove it there; nothing for other kinds. Raises
    OSError where there is no such folder."""
    if kind not in ("file", "folder"):
        return []
    return [fds.Fd(os.open(os.path.dirname(name), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))]


def tell_of_name(client: Client, message: messages.Register | messages.Track, passed: list[fds.Fd]) -> None:
    """Send the tracker this with these fds, and with the folder that a file or a folder is in. Then wait until it has looked
    at who says that, unless we are the program, or it does not look: of the dead nobody knows what they may do. Raises
    OSError, StartError."""
    folders = open_folder(message.kind, message.name)
    client.ensure_door()
    if message.kind == "semaphore" or client.tree is not None:
        client.tell(message, tuple(fd.fileno() for fd in (*passed, *folders)))
        return
    reader, writer = map(fds.Fd, os.pipe2(os.O_CLOEXEC))
    with reader:
        with writer:
            client.tell(message, tuple(fd.fileno() for fd in (*passed, writer, *folders)))
        fds.wait_readable(reader.fileno(), HEARD)  # its end: the tracker has closed what came along


HEARD = 2.0
"""Seconds that a process waits for the tracker to hear of a file of its own. Where that is dead, a successor may hear it."""


def ask_fate(door: sockets.socket, pid: int, moment: int, timeout: float) -> messages.Fate | None:
    """Ask the tracker what became of the orphan of this pid that lived at this moment (ns since boot), waiting until it is
    dead. None: it does not know, or is gone."""
    answer = ask(door, messages.Ask(pid, moment), timeout)
    return answer if isinstance(answer, messages.Fate) and answer.known else None


def give_up(door: sockets.socket, spec: Spec, timeout: float) -> str:
    """Wait no longer for a template that hangs in its preload, which is its end where nobody else does, and give the item
    that it hangs in ("": nobody knows)."""
    with make_spec(spec) as wanted:
        answer = ask(door, messages.GiveUp(), timeout, (wanted.fileno(),))
    return answer.preloading if isinstance(answer, messages.Died) else ""


def ask(
    door: sockets.socket, question: messages.Message, timeout: float, passed: tuple[int, ...] = ()
) -> messages.Message | None:
    """Send a question through the door with a socket for the answer, after other fds, and wait for that."""
    try:
        ours, theirs = sockets.make_pair()
    except OSError:
        return None
    try:
        try:
            sockets.send_within(door, wire.encode(question), (*passed, theirs.fileno()))
        finally:
            theirs.close()
        if not fds.wait_readable(ours.fileno(), timeout):
            return None
        with sockets.receive(ours) as got:
            answer = wire.decode(got.data)
            protocol.step(protocol.ANSWER, "open", protocol.DOWN, answer)
            return answer
    except (OSError, ValueError):  # ValueError: what came is no answer
        return None
    finally:
        ours.close()
