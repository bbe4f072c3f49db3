"""The tracker's interpreter, started before the client knows what to say to it, or is even loaded.

It takes 8 ms to be there, and the first start of a program waits for it. What the client loads, makes and sends takes
2 ms, and does so meanwhile. All that is said comes through the door; the tracker waits there.
"""

from __future__ import annotations

import os
import sys
from _thread import allocate_lock

# The functions themselves: debuggers put theirs into os, and themselves into our helpers; tests of programs put mocks there.
from posix import getpid, posix_spawn, stat

from warmfork._machine import fds, memfds, pids, role, signals, sockets
from warmfork._machine import streams as streams_

START = __file__.replace("_client/spawn.py", "_tracker/start.py")


def has_start() -> bool:
    """Is the file there that an interpreter is started with? A zip file, which warmfork may be in, has none."""
    try:
        return stat(START).st_size > 0
    except OSError:
        return False


class Interpreter:
    """An interpreter that becomes a tracker: both ends of its door, the ledger, and its pid. Raises OSError, with nothing
    left open."""

    def __init__(self, executable: str, flags: tuple[str, ...], environment: dict[bytes, bytes]) -> None:
        self.made_of = executable, flags, environment
        self.owner = getpid()
        self.ledger = fds.Fd(memfds.make_memory("warmfork-ledger"))
        self.door, self.receiver = sockets.make_pair()
        self.own, self.own_receiver = sockets.make_pair()  # nobody else's, to say that the door is shut
        try:
            os.fchmod(self.ledger.fileno(), 0o600)  # a memfd is 0777: whoever sees the link in /proc could write it
            sockets.ask_for_credentials(self.receiver)
            sockets.ask_for_credentials(self.own_receiver)
            passed = self.receiver.fileno(), self.ledger.fileno(), self.own_receiver.fileno()
            self.pid = spawn(executable, flags, environment, *passed)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close what we hold of it."""
        self.door.close()
        self.receiver.close()
        self.own.close()
        self.own_receiver.close()
        self.ledger.close()

    def discard(self) -> None:
        """It is not wanted after all. In a forked copy of its owner: let go of it."""
        self.close()
        if self.owner == getpid():
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)


def spawn(
    executable: str,
    flags: tuple[str, ...],
    environment: dict[bytes, bytes],
    receiver: int,
    ledger: int,
    own: int,
    stderr: int = 2,
) -> int:
    """Start an interpreter as tracker, with the receiving ends of the door and of the program's own socket, and the
    ledger. Gives its pid. Raises OSError."""
    # Where fd numbers are low, one of the four may have the number that another is to get.
    streams = streams_.list_open()
    with (
        make_high(receiver) as door,
        make_high(ledger) as book,
        make_high(own) as programs,
        make_high(stderr) as errors,
        fds.Fd(fds.open_null()) as null,
    ):
        return posix_spawn(
            executable,
            [executable, *flags, START],
            environment,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, null.fileno(), 0),
                # Onto itself: what fill_standard_streams() put there is not inherited otherwise.
                (os.POSIX_SPAWN_DUP2, 1 if 1 in streams else null.fileno(), 1),
                (os.POSIX_SPAWN_DUP2, errors.fileno() if 2 in streams or stderr != 2 else null.fileno(), 2),
                (os.POSIX_SPAWN_DUP2, door.fileno(), 3),
                (os.POSIX_SPAWN_DUP2, book.fileno(), 4),
                (os.POSIX_SPAWN_DUP2, programs.fileno(), 5),
            ],
            # Blocked from before its first instruction: ^C may come before it could ignore it.
            setsigmask=signals.HELPERS_BLOCK,
            setsigdef=(signals.CHILD_DIED,),
        )


def make_high(fd: int) -> fds.Fd:
    """Give a copy of this fd that is above 5. Raises OSError."""
    from fcntl import F_DUPFD_CLOEXEC, fcntl

    return fds.Fd(fcntl(fd, F_DUPFD_CLOEXEC, 6))


def diagnose(executable: str, flags: tuple[str, ...], environment: dict[bytes, bytes]) -> tuple[int, str]:
    """Start an interpreter as tracker to see how it ends: with a door that has nobody behind it, and nothing in its ledger,
    a sound one leaves at once. Gives its status, as of waitpid(), and the end of what it wrote. Raises OSError."""
    sender, receiver = sockets.make_pair()
    try:
        with (
            fds.Fd(memfds.make_memory("warmfork-ledger")) as ledger,
            fds.Fd(memfds.make_memory("warmfork-errors")) as errors,
        ):
            sender.close()
            passed = receiver.fileno(), ledger.fileno(), receiver.fileno(), errors.fileno()
            pid = spawn(executable, flags, environment, *passed)
            with fds.Fd(pids.open_pidfd(pid)) as pidfd:
                if not fds.wait_readable(pidfd.fileno(), DIAGNOSIS):
                    os.kill(pid, 9)
            _, status = os.waitpid(pid, 0)
            return status, memfds.read_all(errors.fileno())[-2000:].decode("utf-8", "replace").strip()
    finally:
        receiver.close()


DIAGNOSIS = 5.0
"""Seconds that an interpreter has to come up, and to leave."""


_begun: list[Interpreter] = []
_lock = allocate_lock()


def begin(executable: str) -> None:
    """Start the interpreter, if this program has not started anything yet. What goes wrong is said by who needs it."""
    client = sys.modules.get("warmfork._client.client")
    if role.kind != role.PROGRAM or not executable or getattr(client, "_client", None) is not None:
        return
    if not _lock.acquire(False):
        return  # another thread does it
    try:
        if not _begun and has_start():
            fds.fill_standard_streams()
            environment = {os.fsencode(name): os.fsencode(value) for name, value in os.environ.items()}
            _begun.append(Interpreter(executable, get_flags(), environment))
    except OSError:
        return
    finally:
        _lock.release()


def end() -> None:
    """Nobody waits for it any longer: where it was not asked for, send it away."""
    found = take()
    if found is not None:
        found.discard()


def take() -> Interpreter | None:
    """Take the interpreter that was begun, if there is one."""
    try:
        return _begun.pop()
    except IndexError:
        return None


def get_interpreter(executable: str, flags: tuple[str, ...], environment: dict[bytes, bytes]) -> Interpreter:
    """Give an interpreter of this executable, these options and this environment. Raises OSError."""
    found = take()
    if found is not None:
        if found.owner == getpid() and found.made_of == (executable, flags, environment):
            return found
        found.discard()
    return Interpreter(executable, flags, environment)


def get_flags() -> tuple[str, ...]:
    """Give the options of this interpreter, for another that is to have the same."""
    # The usual cases without subprocess, whose import costs 3 to 8 ms before a first start. Images of containers set
    # PYTHONDONTWRITEBYTECODE, which is a flag too.
    flags = [flag for flag in OPTIONS if getattr(sys.flags, flag, 0)]
    if not sys.warnoptions and not sys._xoptions and flags in ([], ["dont_write_bytecode"]):
        return ("-B",) if flags else ()
    from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]

    return tuple(_args_from_interpreter_flags())


OPTIONS = (
    "debug", "optimize", "dont_write_bytecode", "no_user_site", "no_site", "ignore_environment", "verbose",
    "bytes_warning", "quiet", "isolated", "dev_mode", "safe_path",
)  # fmt: skip
"""The fields of sys.flags that subprocess's function looks at, on 3.11 to 3.15."""
