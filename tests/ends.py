"""What children do at their end, in the tests. It stands alone, as tests/targets.py does."""

from __future__ import annotations

import os


def always_have_a_helper() -> None:
    """A preload: a child maps no library that its template has not, so its memory is taken over."""
    import fcntl  # noqa: F401
    import pickle  # noqa: F401
    import socket  # noqa: F401


_file: object = None


def note_stdout() -> None:
    """A preload: note the file object below stdout."""
    global _file
    import sys

    _file = sys.stdout.buffer.raw


def see_rehearsed() -> dict[str, bool] | None:
    """In a child: what was rehearsed of its life. None: its template has not come so far."""
    import sys

    if "warmfork._idle.pretouch" not in sys.modules:
        return None
    from warmfork._child import ending

    look = ending.holds_memory_alone.__code__
    return {
        "stdout is as the template has it": sys.stdout.buffer.raw is _file,
        "the last look is specialised": look._co_code_adaptive != look.co_code,
    }


_locked: list[object] = []


def lock_and_listen(path: str) -> tuple[int, bool]:
    """Take both kinds of lock on a file, and listen. Gives the port, and whether a helper may be made of this process."""
    import fcntl
    import socket

    from warmfork._child import ending

    file = open(path, "w")  # noqa: SIM115
    fcntl.flock(file, fcntl.LOCK_EX)
    fcntl.lockf(file, fcntl.LOCK_EX)
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen()
    _locked.extend((file, server))
    return server.getsockname()[1], ending._make_helper is not None and ending.may_outlive()


def see_environment() -> dict[str, str]:
    return dict(os.environ)


def close_all_and_open(folder: str) -> str:
    """Close all fds, as daemons do, fill their numbers with our own, use warmfork, and look at exit what became of them."""
    import atexit
    import multiprocessing
    import socket

    import warmfork

    os.closerange(3, 4096)
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(20)]
    files = [open(f"{folder}/{number}", "w") for number in range(60)]  # noqa: SIM115

    def look() -> None:
        for file in files:
            file.write("mine")
            file.close()
        for pair in pairs:
            for end in pair:
                end.setblocking(False)
                try:
                    raise RuntimeError(f"{end.recv(1000)!r} came to a socket of the child's")
                except BlockingIOError:
                    continue
        with open(f"{folder}/said", "w") as file:
            file.write(f"all {len(files)} files are mine, and nothing came to {len(pairs)} sockets")

    # Exit handlers run after the result was sent.
    atexit.register(look)
    lock = multiprocessing.get_context("spawn").Lock()
    warmfork.track(f"{folder}/0", "file")
    warmfork.untrack(f"{folder}/0", "file")
    return str(lock)


class Spraying:
    """An argument that says, while it is unpickled, things with open files on the child's feed."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return spray, (self.count,)


def spray(count: int) -> int:
    """Say each word that a child has before its last, with open files, of which the first comes again and again."""
    import sys

    from warmfork._child.birth import Birth
    from warmfork._machine import sockets
    from warmfork._words import messages, wire

    frame = sys._getframe()
    while not isinstance(frame.f_locals.get("birth"), Birth):
        frame = frame.f_back
    socket = frame.f_locals["birth"].socket
    for _ in range(count):
        sockets.send_within(socket, wire.encode(messages.BuffersAt(b"")), [1, 1])
    sockets.send_within(socket, wire.encode(messages.Became()), [1, 1])
    return count


class Unflushable:
    """A stream whose flush() fails as no stream's does."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        raise KeyError("the buffer")


def leave_with_unflushable(note: str) -> None:
    """Put such a stream in stdout's place, and have something done at exit."""
    import atexit
    import sys

    sys.stdout = Unflushable()
    atexit.register(write_note, note)


def leave_without_stderr(note: str, argument: object) -> None:
    """Leave by sys.exit() where stderr is closed, and have something done at exit."""
    import atexit
    import sys

    sys.stderr.close()
    atexit.register(write_note, note)
    sys.exit(argument)


class Untold:
    """What sys.exit() is given, and can't be written."""

    def __str__(self) -> str:
        raise KeyError("no text")


def write_note(note: str) -> None:
    with open(note, "w") as file:
        file.write("done")


def end_alone(answer: int) -> None:
    """Have it said on this fd, at the very end, whether a helper may be made, whose making closes all files."""
    from warmfork._child import ending

    may_outlive = ending.may_outlive

    def look() -> bool:
        found = may_outlive()
        os.write(answer, b"1" if found else b"0")
        return found

    ending.may_outlive = look


def end_thread(answer: int) -> None:
    """The same, of a child in which an exit handler starts a thread, by the C library's own call, that does not end."""
    import atexit

    from warmfork._machine import calls

    def start() -> None:
        handle = bytes(8)
        _locked.append(handle)
        pause = calls.make_pointer(calls.find("pause"))
        calls.call("pthread_create", calls.make_pointer(calls.get_address(handle)), None, pause, None)

    atexit.register(start)
    end_alone(answer)
