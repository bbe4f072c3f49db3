"""The tracker's interpreter, started before the client knows what to say to it, or is even loaded.

It takes 8 ms to be there, and the first start of a program waits for it. What the client loads, makes and sends takes
2 ms, and does so meanwhile. All that is said comes through the door; the tracker waits there.
"""

from __future__ import annotations

import os
import sys
from _thread import allocate_lock

from warmfork._machine import fds, role, signals
from warmfork._machine import streams as streams_

START = __file__.replace("_client/spawn.py", "_tracker/start.py")


class Interpreter:
    """An interpreter that becomes a tracker: both ends of its door, the ledger that it will write, and its pid."""

    def __init__(self, executable: str, flags: tuple[str, ...], environment: dict[bytes, bytes]) -> None:
        self.made_of = executable, flags, environment
        self.owner = os.getpid()
        self.pid = -1
        self.door, self.receiver = fds.make_pair()
        self.ledger = -1
        try:
            fds.ask_for_credentials(self.receiver)
            self.ledger = fds.make_memory("warmfork-ledger")
            self.pid = spawn(executable, flags, environment, self.receiver.fileno(), self.ledger)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Close what we hold of it."""
        self.door.close()
        self.receiver.close()
        if self.ledger >= 0:
            os.close(self.ledger)

    def discard(self) -> None:
        """It is not wanted after all. In a forked copy of its owner: let go of it."""
        self.close()
        if self.owner == os.getpid():
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)


def spawn(executable: str, flags: tuple[str, ...], environment: dict[bytes, bytes], receiver: int, ledger: int) -> int:
    """Start an interpreter as tracker, with the receiving end of the door, and the ledger. Gives its pid. Raises
    OSError."""
    # Where fd numbers are low, one of the two may have the number that the other is to get.
    receiver, ledger = make_high(receiver), make_high(ledger)
    null = fds.open_null()
    streams = streams_.list_open()
    try:
        return os.posix_spawn(
            executable,
            [executable, *flags, START],
            environment,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, null, 0),
                # Onto themselves: what fill_standard_streams() put there is not inherited otherwise.
                (os.POSIX_SPAWN_DUP2, 1 if 1 in streams else null, 1),
                (os.POSIX_SPAWN_DUP2, 2 if 2 in streams else null, 2),
                (os.POSIX_SPAWN_DUP2, receiver, 3),
                (os.POSIX_SPAWN_DUP2, ledger, 4),
            ],
            # Blocked from before its first instruction: ^C may come before it could ignore it.
            setsigmask=signals.HELPERS_BLOCK,
            setsigdef=(signals.CHILD_DIED,),
        )
    finally:
        fds.close_all((null, receiver, ledger))


def make_high(fd: int) -> int:
    """Give a copy of this fd that is neither 3 nor 4."""
    from fcntl import F_DUPFD_CLOEXEC, fcntl

    return fcntl(fd, F_DUPFD_CLOEXEC, 5)


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
        if not _begun:
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
        if found.owner == os.getpid() and found.made_of == (executable, flags, environment):
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
