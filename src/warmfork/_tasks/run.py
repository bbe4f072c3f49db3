"""The entry of Template.run() and Template.session(): confine this child, run what it was sent, and say what came of it.

What it says is a claim, for somebody else's code runs here. The outcome, the limits and the times are the client's to
find out.
"""

from __future__ import annotations

import _signal
import os
import resource
import sys
from _socket import AF_UNIX, SOCK_STREAM
from select import POLLIN, poll

from warmfork._child import birth as birth_
from warmfork._child import ending, stdio
from warmfork._machine import pids, signals, sockets
from warmfork._tasks import end_what_is_left, snippet, values
from warmfork._tasks import frames as words
from warmfork._tasks.frames import DATA, NOTHING, PICKLE, REFUSED, Reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from warmfork._child.birth import Birth

SIGINT = 2


def adopt_stream(fd: int) -> sockets.socket:
    """Make a socket object of a stream's fd."""
    made = sockets.socket(AF_UNIX, SOCK_STREAM, 0, fd)
    sockets.make_patient(made)  # whatever a preload has set for sockets
    return made


class Runner:
    """What a child was sent, and where its reply goes."""

    def __init__(self, birth: Birth, settings: dict[str, Any]) -> None:
        self.birth = birth
        self.trust = bool(settings["trust"])
        self.stdin = bool(settings["stdin"])
        self.link = adopt_stream(birth.fds.pop(0))

    def reply(self, number: int, value: object, error: BaseException | None) -> str:
        """Send what a snippet came to. Gives the traceback's text."""
        kind, content, said = NOTHING, b"", None
        if error is not None:
            if not self.stdin and ending.wanted_stdin(error):
                error.add_note(ending.NO_STDIN)
            said = snippet.describe(error)
        elif self.trust:
            kind, content, said = self.pickle(value)
        else:
            try:
                kind, content = DATA, values.encode(value)
            except values.NotData as refusal:
                kind, content = REFUSED, str(refusal).encode("utf-8", "backslashreplace")
        text = said[2] if said is not None else ""
        if said is not None:
            said = said[0][:1000], said[1][:10_000], text[-words.LARGEST_TEXT :]
        try:
            self.link.sendall(Reply(number, kind, content, said).encode())
        except OSError:
            return text  # the client has gone, or the code has closed our end: then there is no result
        return text

    def pickle(self, value: object) -> tuple[bytes, bytes, tuple[str, str, str] | None]:
        """Pickle a value for a client that trusts this child."""
        from warmfork._tasks.call import pickle

        try:
            return PICKLE, b"".join(pickle(value, False).parts), None
        except Exception as refusal:
            return REFUSED, f"it can't be pickled: {type(refusal).__name__}: {refusal}".encode(), None

    def make_poller(self) -> poll:
        """Make what waits for a session's commands, and for the client's end: that of the stream need not show it, for a
        fork of the client may hold its other end."""
        poller = poll()
        poller.register(self.link.fileno(), POLLIN)
        poller.register(self.birth.parent, POLLIN)
        return poller

    def receive(self, poller: poll) -> tuple[int, str | bytes, str] | None:
        """Wait for a session's next command. None: the client is gone."""
        number = self.link.fileno()
        whole = bytearray()
        wanted = words.HEADER.size
        while len(whole) < wanted:
            if all(fd != number for fd, _ in poller.poll()):
                return None
            data = self.link.recv(max(READ, min(1 << 20, wanted - len(whole))))
            if not data:
                return None
            whole += data
            if len(whole) >= words.HEADER.size:
                wanted = words.HEADER.size + words.HEADER.unpack_from(whole)[1]
        return words.read_command(whole[words.HEADER.size :])


READ = 65_536


def run(birth: Birth) -> int:
    """Run what this child was started for. Gives the exit code, as an interpreter would."""
    ending.forget_exit_handlers()
    try:
        settings, rest = words.unpack_task(birth.payload)
        confine(settings)
        runner = Runner(birth, settings)
        if settings["captured"]:
            stdio.write_through()
        kind = settings["kind"]
        namespace = snippet.Namespace() if kind != "call" else None
        call = load_call(birth, rest) if kind == "call" else None
    except BaseException as error:
        birth_.fail(birth, error)
        return 1
    birth.payload, birth.buffers = b"", []
    birth.finish_becoming()
    if namespace is None:
        code = run_alone(runner, call or dict)
    elif kind == "session":
        code = serve(runner, namespace)
    else:
        text = rest.tobytes().decode("utf-8", "surrogatepass") if settings["text"] else rest.tobytes()
        code = run_alone(runner, lambda: namespace.get_value(namespace.run(text, settings["name"])))
    ending.run_exit_handlers()
    stdio.flush()
    end_what_is_left()
    if code == -SIGINT:  # as an interpreter does that ^C has ended
        signals.set_disposition(SIGINT, signals.SIG_DFL)
        os.kill(os.getpid(), SIGINT)
    return code


def confine(settings: dict[str, Any]) -> None:
    """Be the root of a tree of its own, which can be ended without touching anybody else: not even the group of the program,
    in which a child begins."""
    pids.become_subreaper()
    os.setsid()
    for number, limits in settings["rlimits"].items():
        resource.setrlimit(number, limits)


def load_call(birth: Birth, data: memoryview) -> Callable[[], object]:
    """Unpickle a call, which its client has made."""
    from _pickle import loads  # not pickle: the Python around it takes 3 to 7 ms to load

    function, args, kwargs = loads(data, buffers=birth.buffers)
    return lambda: function(*args, **kwargs)


def run_alone(runner: Runner, call: Callable[[], object]) -> int:
    """Run the one thing that this child is for. Gives the exit code; -SIGINT where ^C ended it."""
    try:
        value = call()
    except SystemExit as error:
        code = ending.read_code(error.code)
        if not runner.stdin and ending.wanted_stdin(error):
            sys.stderr.write(f"{ending.NO_STDIN}\n")
        stdio.flush()
        runner.reply(0, None, None)
        return code
    except BaseException as error:
        text = runner.reply(0, None, error)
        if text:
            snippet.show(error, text)
        return -SIGINT if isinstance(error, KeyboardInterrupt) else 1
    stdio.flush()
    runner.reply(0, value, None)
    return 0


def serve(runner: Runner, namespace: snippet.Namespace) -> int:
    """Run snippets as they come, until there are none any more. Gives the exit code.

    SIGINT is taken while a snippet runs and at no other time: it interrupts that snippet, and never us.
    """
    unblocked = [number for number in signals.get_mask() if number != SIGINT]
    blocked = [*unblocked, SIGINT]
    signals.set_mask(blocked)
    signals.set_disposition(SIGINT, _signal.default_int_handler)
    poller = runner.make_poller()
    while True:
        command = runner.receive(poller)
        if command is None:
            return 0
        number, code, name = command
        while _signal.sigtimedwait((SIGINT,), 0) is not None:
            continue  # it was meant for the snippet before
        value: object = None
        caught: BaseException | None = None
        try:
            try:
                signals.set_mask(unblocked)
                value = namespace.run(code, name)
            finally:
                signals.set_mask(blocked)  # one that came in the last moment is raised here
        except SystemExit as error:
            return ending.read_code(error.code)
        except BaseException as error:
            caught = error
        stdio.flush()
        runner.reply(number, value, caught)
        value = caught = None
