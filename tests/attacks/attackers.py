"""What an attacker says at the door: every message, whole and spoilt, with any fds. It runs in a child of the program."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress

from tests.fuzz.strategies import OPENERS
from warmfork._machine import fds, memfds, role, sockets
from warmfork._words import messages, wire
from warmfork._words.messages import Message
from warmfork._words.protocol import DOOR, TABLE

NOBODY = 65534
KINDS = {kind.__name__: kind for _, kind in TABLE[DOOR, "open"]}

Shot = tuple[bytes, list[Callable[[], int]]]


def become_nobody() -> None:
    """Give up all rights, as a server does that has bound its port."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def open_me() -> int:
    return os.pidfd_open(os.getpid())


def open_template() -> int:
    return os.pidfd_open(os.getppid() or os.getpid())  # a first process has no parent that it sees


def open_pair() -> int:
    """One end of a pair whose other end nobody reads."""
    ours, theirs = sockets.make_pair()
    _kept.append(ours)
    return theirs.detach()


_kept: list[sockets.socket] = []


def open_door() -> int:
    """The door: a child's, or the program's own."""
    from warmfork._client.client import get_client

    return os.dup(role.door if role.door >= 0 else get_client().ensure_door().fileno())


def open_board() -> int:
    """A board, as large as one, that says that everybody is a child of ours and is to be ended."""
    from warmfork._words import board as board_

    memory = bytearray(board_.SIZE)
    board = board_.Board(memory)  # type: ignore[arg-type]
    board.begin(1, os.getppid(), 1)
    for slot, pid in enumerate((os.getppid(), 1, 2**40, -5, 2**31)):
        board.write_slot(slot, os.getpid(), 1, 1, 2**62, b"x")
        board.write_pid(slot, pid) if pid >= 0 else None
    return memfds.make_memory("warmfork-board", bytes(memory))


def list_messages(kind: type[Message], folder: str, name: str) -> list[Message]:
    """Messages of this kind that would hurt, if they were believed: `name` is of a file of the program's in `folder`."""
    path = os.path.join(folder, name)
    made: dict[type[Message], list[Message]] = {
        messages.Hello: [messages.Hello(os.getpid(), failed, stdio) for failed in (0, 1) for stdio in (0, 3, 4)],
        messages.Register: [
            messages.Register(k, n) for k in ("file", "folder", "nonsense") for n in (path, folder, "/")
        ],
        messages.Track: [messages.Track(k, n) for k in ("file", "folder") for n in (path, folder, "/", "")],
        messages.Unregister: [messages.Unregister("file", f"{folder}/kept")],
        messages.Untrack: [messages.Untrack("file", f"{folder}/kept")],
        messages.Ask: [messages.Ask(pid, moment) for pid in (os.getpid(), 2**40, -1) for moment in (0, 2**62)],
        messages.Hung: [messages.Hung(pid) for pid in (os.getppid(), 2**40, -1)],
        messages.Inherit: [messages.Inherit(1, pid, "x") for pid in (os.getppid(), os.getpid(), -1, 2**40)],
    }
    return made.get(kind) or [kind()]


def list_fds(kind: type[Message], folder: str, spec: bytes) -> list[Callable[[], int]]:
    """What belongs to a message of this kind."""

    def open_folder() -> int:
        return os.open(folder, os.O_PATH | os.O_DIRECTORY)

    def open_spec() -> int:
        return memfds.make_memory("warmfork-spec", spec)

    return {
        messages.Hello: [open_pair, open_me, open_spec, open_door],
        messages.Register: [open_folder],
        messages.Track: [open_me, open_folder],
        messages.Ask: [open_pair],
        messages.Sweep: [open_pair],
        messages.GiveUp: [open_spec, open_pair],
        messages.Inherit: [open_template, open_board],
    }.get(kind, [])


def list_shots(kind: type[Message], folder: str, name: str, spec: bytes, whole: bool) -> Iterator[Shot]:
    """All that is thrown: forged and replayed, if they are to be `whole`; cut, with none, too few, wrong and too many fds,
    with NULs."""
    right = list_fds(kind, folder, spec)
    for message in list_messages(kind, folder, name):
        data = wire.encode(message)
        if whole:
            yield data, right
            yield data, right  # once more
        for opener in OPENERS if right else ():
            for place in range(len(right)):
                if whole or place == len(right) - 1:
                    yield data, [*right[:place], opener, *right[place + 1 :]]
        if right:
            yield data, []
            yield data, right[:-1] if len(right) > 1 else []
        if whole:
            yield data, [*right, *OPENERS[:3], *OPENERS[:3]]
        for end in range(1, len(data)):
            yield data[:end], right
        yield data + b"\0", right
        if any(isinstance(value, str) for value in message):
            yield wire.encode(kind(*[f"{v}\0x" if isinstance(v, str) else v for v in message])), right


def throw(door: sockets.socket, shot: Shot) -> None:
    """Send this, whatever comes of it."""
    passed: list[int] = []
    try:
        for opener in shot[1]:
            with suppress(PermissionError):
                passed.append(opener())
        with suppress(BrokenPipeError):
            sockets.send_within(door, shot[0], passed)
    finally:
        fds.close_all(passed)


def attack(kind: str, folder: str, name: str, spec: bytes, other_user: bool) -> int:
    """Throw all of this kind at the door. Gives how much it was."""
    import random

    door = sockets.adopt_socket(os.dup(role.door))
    if other_user:
        become_nobody()
    noise = random.Random(5)
    shots: list[Shot]
    if kind == "nonsense":
        shots = [(noise.randbytes(noise.choice((1, 2, 9, 3000))), list(OPENERS[: n % 7])) for n in range(500)]
        obeyed = {messages.Register.TAG, messages.Track.TAG}
        shots = [shot for shot in shots if shot[0][0] not in obeyed]
    elif kind == "nothing":
        shots = [(b"", list(OPENERS[: n % 8])) for n in range(100)]
    else:
        # What a process of the same user asks with all that it takes is obeyed: it has these rights itself.
        whole = other_user or kind not in ("Register", "Track", "Unregister", "Untrack")
        shots = list(list_shots(KINDS[kind], folder, name, spec, whole))
    for shot in shots:
        throw(door, shot)
        while _kept:
            _kept.pop().close()
    return len(shots)
