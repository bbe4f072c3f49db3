"""What many processes do in the tests, and templates that refuse one of them. It stands alone, as tests/targets.py does."""

from __future__ import annotations

import errno
import os
import sys


def exit_with(path: str, number: int) -> None:
    """Leave a line, and exit with this number."""
    append(path, str(number))
    sys.exit(number)


def append(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{text}\n".encode())
    os.close(fd)


def append_and_give(path: str, number: int) -> int:
    append(path, str(number))
    return number


def refuse_the_fourth_fork() -> None:
    """A preload: the fourth fork of this template is refused, once."""
    from warmfork._template import forking  # in the template it is loaded

    fork, left = forking.fork, [3]

    def refuse() -> int:
        left[0] -= 1
        if left[0] == -1:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return fork()

    forking.fork = refuse


def start_more(context, path: str, number: int, more: int) -> None:
    """Start processes from a process, at the same time as its siblings do."""
    processes = [context.Process(target=append, args=(path, f"{number}.{n}")) for n in range(more)]
    context.start_many(processes[1:])
    processes[0].start()
    for process in processes:
        process.join(60)
    sys.exit(sum(process.exitcode != 0 for process in processes))
