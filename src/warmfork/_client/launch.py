"""Starting a tree: the tracker, its door, and the hello by which a process gets a channel to a template."""

from __future__ import annotations

import os
import sys

from warmfork._client import ahead
from warmfork._machine import fds, state
from warmfork._words import messages, wire
from warmfork._words.errors import StartError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from warmfork._words.spec import Spec


class Tree:
    """What the root of a tree holds: the door's sending end, and its tracker."""

    def __init__(self, door: fds.socket, tracker: int, pidfd: int) -> None:
        self.door = door
        self.tracker = tracker
        self.pidfd = pidfd


def get_program_name() -> str:
    """Give what a user would call this program."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name and spec.name != "__main__":
        return str(spec.name).removesuffix(".__main__")
    script = sys.argv[0] if sys.argv else ""
    return os.path.basename(script).removesuffix(".py") or "python" if script not in ("", "-", "-c") else "python"


def launch_tracker(executable: str, flags: tuple[str, ...], environment: tuple[str, ...], prefix: str) -> Tree:
    """Start a tracker. Raises StartError, with nothing left behind."""
    if not executable:
        raise StartError("launch", "sys.executable is not set: this program must say which interpreter to start")
    me = os.pidfd_open(os.getpid())
    try:
        interpreter = ahead.get_interpreter(executable, flags, state.split_environment(environment))
        try:
            fds.send(interpreter.door, wire.encode(messages.Root(os.getpid(), get_program_name(), prefix)), (me,))
            pidfd = state.move_high(os.pidfd_open(interpreter.pid))
        except BaseException:
            interpreter.discard()
            raise
    except OSError as error:
        raise StartError("launch", f"{executable}: {error.strerror}") from error
    finally:
        os.close(me)
    return Tree(fds.adopt_socket(state.move_high(interpreter.door.detach())), interpreter.pid, pidfd)


def say_hello(door: fds.socket, spec: Spec, failed: bool) -> fds.socket:
    """Ask the tracker for a channel to the template of this spec. Raises OSError where the tracker is gone."""
    channel, theirs = fds.make_pair()
    given: list[int] = []
    streams = [number for number in (1, 2) if fds.is_open(number)]
    # An allocator is chosen by variables, which an interpreter reads when it starts.
    by_exec = 4 if spec.huge_pages == "malloc" else 0
    message = messages.Hello(os.getpid(), int(failed), sum(streams) | by_exec)
    try:
        given.append(os.pidfd_open(os.getpid()))
        given.append(fds.make_memory("warmfork-spec", wire.encode(spec, largest=1 << 30)))
        fds.send_within(door, wire.encode(message), [theirs.fileno(), *given, door.fileno(), *streams])
    except BaseException:
        channel.close()
        raise
    finally:
        theirs.close()
        fds.close_all(given)
    return fds.adopt_socket(state.move_high(channel.detach()))


def ask_fate(door: fds.socket, pid: int, timeout: float) -> messages.Fate | None:
    """Ask the tracker what became of an orphan, waiting until it is dead. None: it does not know, or is gone."""
    answer = ask(door, messages.Ask(pid), timeout)
    return answer if isinstance(answer, messages.Fate) and answer.known else None


def give_up(door: fds.socket, spec: Spec, timeout: float) -> str:
    """Have a template ended that hangs in its preload, and give the item that it hangs in ("": nobody knows)."""
    spec_fd = fds.make_memory("warmfork-spec", wire.encode(spec, largest=1 << 30))
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
