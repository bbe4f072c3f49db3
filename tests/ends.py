"""What children do at their end, in the tests. It stands alone, as tests/targets.py does."""

from __future__ import annotations

import os


def always_have_a_helper() -> None:
    """A preload: a child's memory is taken over however little it is. A child maps no library that its template has not."""
    import fcntl  # noqa: F401
    import pickle  # noqa: F401
    import socket  # noqa: F401

    from warmfork._child import ending

    ending.WORTH_KIB = 0


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
