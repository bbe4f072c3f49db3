"""Which modules a child imports between its birth and its end: each costs milliseconds, in each child.

    python -m tests.child_imports                       every case, in each situation
    python -m tests.child_imports lock queue --when late

A template that preloads `tests.child_imports:watch` has an audit hook, which its children inherit. In a child it writes
down each module that is looked for (also in vain) and each that is executed (also one that was there, to be loaded when
somebody looks into it). Nothing heavy is imported here: the functions that children run are here too, and a template
loads this module for them.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FOLDER = "WARMFORK_TEST_IMPORTS"
"""The variable that names the folder in which children write down what they import."""

LARGE = 4_000_000


noted = 0
"""The pid of the process that has begun its file, of those that were born of a watched template."""


def watch() -> None:
    """Preloaded: from now on each child of this template has a file named by its pid, with what it imports."""
    template, folder = os.getpid(), os.environ[FOLDER]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        global noted
        pid = os.getpid()
        if pid == template:
            return
        if noted != pid:
            noted = pid  # first, since write() raises events too
            write(f"{folder}/{pid}", "")
        if event == "import":
            write(f"{folder}/{pid}", f"{arguments[0]}\n")
        elif event == "exec" and getattr(arguments[0], "co_name", "") == "<module>":
            write(f"{folder}/{pid}", f"({arguments[0].co_filename})\n")

    sys.addaudithook(hook)


def write(path: str, text: str) -> None:
    """Append to a file. It is opened each time: a child closes the fds that are not its own."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def read_imports(folder: str, pid: int) -> list[str]:
    """What the child with this pid has imported: names, and files that were executed in brackets.

    Raises FileNotFoundError where it was no child of a watched template.
    """
    with open(f"{folder}/{pid}") as file:
        return list(dict.fromkeys(file.read().splitlines()))


# What children run.


def nothing() -> None:
    """Just end."""


def take_lock(lock: Any) -> None:
    """Take a lock, and give it back."""
    with lock:
        pass


def set_event(event: Any) -> None:
    """Set an event."""
    event.set()


def put(queue: Any) -> None:
    """Put a word into a queue."""
    queue.put("said")


def send(connection: Any) -> None:
    """Send a word through a pipe."""
    connection.send("said")


def fill_array(array: Any) -> None:
    """Write to an array."""
    array[0] = 7


def set_value(value: Any) -> None:
    """Write to a value."""
    value.value = 7


def write_shared(memory: Any) -> None:
    """Write to shared memory, which this process has attached to unpickle its argument."""
    memory.buf[0] = 7
    memory.close()


def fill_proxy(proxy: Any) -> None:
    """Write to a dict of a manager."""
    proxy["said"] = 7


def double(number: int) -> int:
    """Give twice the number."""
    return 2 * number


def start_another(context: Any, path: str) -> None:
    """Start a process, and write its pid to a file."""
    process = context.Process(target=nothing)
    process.start()
    with open(path, "w") as file:
        file.write(str(process.pid))
    process.join()
    if process.exitcode != 0:
        raise ChildProcessError(f"the inner process ended with {process.exitcode}")


def fail() -> None:
    """Raise ValueError."""
    raise ValueError("as told")


def make_large() -> bytes:
    """Give much, which goes to the client past the pipe."""
    return bytes(LARGE)


if __name__ == "__main__":
    from tests.child_import_cases import main

    sys.exit(main())
