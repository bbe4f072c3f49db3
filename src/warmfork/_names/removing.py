"""Removing the names that the dead have left, and saying who they were.

Nothing here is done in the tracker's loop: a file system may hang, and a pipe be full. It is done in a process of its
own (see sweeper.py), or when the loop has ended.
"""

from __future__ import annotations

import os
from select import POLLOUT, poll
from stat import S_ISREG
from time import monotonic

from warmfork._machine import fds
from warmfork._names import folders as folders_
from warmfork._words import ledger as ledger_
from warmfork._words import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from warmfork._names.folders import Folders
    from warmfork._names.kept import Entry

GONE, REMOVED = "gone", "removed"
"""What remove() gives where it raises nothing."""


def read_title(pid: int) -> str:
    """Give what ps shows for this process, or "" where it is gone."""
    return fds.try_to_read(f"/proc/{pid}/cmdline", 300).replace(b"\0", b" ").decode("utf-8", "replace").strip()


def remove(entry: Entry, folders: Folders) -> str:
    """Remove what this name names. Gives REMOVED, GONE where it was not there, or why it could not be removed."""
    try:
        if entry.kind in folders_.KINDS:
            remove_in_folder(entry, folders)
        elif entry.kind == "semaphore":
            from _multiprocessing import sem_unlink

            sem_unlink(entry.name)
        elif entry.kind == "shared_memory":
            from _posixshmem import shm_unlink  # type: ignore[import-not-found]

            shm_unlink(entry.name)
        else:
            return REMOVED  # a kind that somebody has made up; the stdlib's tracker knows some more ("dummy")
    except FileNotFoundError:
        return GONE
    except (OSError, ValueError, RecursionError) as error:
        return str(error) or type(error).__name__
    return REMOVED


def remove_in_folder(entry: Entry, folders: Folders) -> None:
    """Remove a file, or a folder with all that is in it, following no link. Raises OSError."""
    with folders.open(entry) as folder:
        name = os.path.basename(entry.name)
        if entry.kind == "file":
            os.unlink(name, dir_fd=folder.fileno())
        else:
            remove_tree(name, folder.fileno())


def remove_tree(name: str, folder: int) -> None:
    """Remove a folder with all that is in it. Raises OSError."""
    from shutil import rmtree

    for _ in range(TRIES):
        try:
            rmtree(name, dir_fd=folder)
        except FileNotFoundError:  # the folder itself, or what somebody else removes from it at this moment
            os.stat(name, dir_fd=folder, follow_symlinks=False)
        else:
            return
    raise OSError("somebody else removes what is in it")


TRIES = 3


def sweep(entries: list[Entry], mixed: bool, folders: Folders) -> int:
    """Remove these names, all that are left, and then say so on the program's stderr. Gives how many there were.

    The first line is the stdlib's to the letter, since programs and CPython's tests look for it.
    """
    outcomes = [(entry, remove(entry, folders)) for entry in entries]
    # Where the stdlib's own tracker runs beside us, it removes the names that it heard of: those are nobody's loss. Nor
    # are files that somebody has removed without a word.
    left = [(e, outcome) for e, outcome in outcomes if outcome != GONE or not (mixed or e.kind in folders_.KINDS)]
    # multiprocessing makes such a folder for itself, and leaves it where a worker is terminated: no loss of the program's.
    left = [(e, outcome) for e, outcome in left if outcome != REMOVED or not is_of_multiprocessing(e)]
    lines = []
    for kind in dict.fromkeys(entry.kind for entry, _ in left):
        of_kind = [(entry, outcome) for entry, outcome in left if entry.kind == kind]
        names = ", ".join(sorted(repr(entry.name) for entry, _ in of_kind))
        lines.append(
            f"resource_tracker: There appear to be {len(of_kind)} leaked {kind} objects to clean up at shutdown: {{{names}}}"
        )
        for entry, outcome in of_kind:
            if outcome != REMOVED:
                why = "[Errno 2] No such file or directory" if outcome == GONE else outcome
                lines.append(f"resource_tracker: {entry.name!r}: {why}")
        makers = [(entry.maker, entry.title) for entry, _ in of_kind]
        for pid, title in dict.fromkeys(makers):
            count = makers.count((pid, title))
            lines.append(f"warmfork: tracker: {count} of them made by pid {pid} ({title or 'unknown'})")
    say(lines)
    return len(left)


def is_of_multiprocessing(entry: Entry) -> bool:
    """Is this the folder for sockets that multiprocessing makes for itself?"""
    return entry.kind == "folder" and os.path.basename(entry.name).startswith("pymp-")


def sweep_prefix(prefix: str) -> None:
    """Remove this tree's semaphores that were made and never registered: their maker died in between."""
    for name in list_shared() if prefix else ():
        if name.startswith(prefix):
            unlink_shared(name)


def list_shared() -> list[str]:
    """List the names of semaphores and shared memory."""
    try:
        return os.listdir("/dev/shm")
    except OSError:  # there are none
        return []


def unlink_shared(name: str) -> None:
    """Remove one of them, if it is there and ours."""
    try:
        os.unlink(f"/dev/shm/{name}")
    except OSError:  # another user's, or somebody else was as quick
        return


def sweep_dead_trees() -> None:
    """Remove the semaphores of trees that are dead to the last process, their trackers killed with them.

    A name says which pid the tree's program had, and in which namespace. A tree whose program is dead may live in its
    kept children: then there is a tracker, and it holds the ledger.
    """
    here = f"{os.stat('/proc/self/ns/pid').st_ino:x}"
    dead: dict[str, list[str]] = {}
    for name in list_shared():
        parts = name.removeprefix("sem.mp-").split(".")
        if len(parts) == 3 and parts[0] == here and "-" in parts[2] and is_dead(parts[1]):
            dead.setdefault(name[: name.rindex("-") + 1], []).append(name)
    if dead:
        for prefix in list_living_prefixes() | list_mapped_prefixes(dead):
            dead.pop(prefix, None)
    for names in dead.values():
        for name in names:
            unlink_shared(name)


def is_dead(digits: str) -> bool:
    """Is there no process of this pid? Anybody can make files in /dev/shm: what is no pid of ours is not dead either."""
    try:
        pid = int(digits, 16)
    except ValueError:
        return False
    return f"{pid:x}" == digits and 0 < pid < 1 << 31 and not os.path.exists(f"/proc/{pid}")


def list_living_prefixes() -> set[str]:
    """List the prefixes of the trees whose ledgers are held: by their trackers, or programs."""
    prefixes = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                path = f"/proc/{pid}/fd/{fd}"
                if is_ledger(os.readlink(path)):
                    prefixes.add(read_prefix(path))
        except (OSError, OverflowError):  # it ended meanwhile, or is another user's; or is no ledger, and says nonsense
            continue
    return prefixes


def list_mapped_prefixes(prefixes: Iterable[str]) -> set[str]:
    """List those of these prefixes of which some process has a semaphore in use."""
    mapped: set[str] = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as file:
                text = file.read()
        except OSError:
            continue
        mapped.update(prefix for prefix in prefixes if prefix in text)
    return mapped


def is_ledger(target: str) -> bool:
    """Is an fd with this link in /proc a ledger, or a file that stands in for one? Where there are semaphores, such files
    are in their folder too. Whoever else has such a file may be anybody."""
    name, _, rest = target.partition(" ")
    folder, _, number = name.rpartition("-")
    stands_in = folder == "/dev/shm/warmfork-ledger" and len(number) == 12
    return rest == "(deleted)" and (name == "/memfd:warmfork-ledger" or stands_in)


LONGEST_ROOT = 65_536
"""Bytes from where a ledger begins that hold its first record, which says whose it is."""


def read_prefix(path: str) -> str:
    """Read from a ledger how its tree's semaphores begin; "" of what is no ledger, though its name is one's. Waits for
    nobody, whatever the file is. Raises OSError, OverflowError."""
    with fds.Fd(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)) as file:
        if not S_ISREG(os.fstat(file.fileno()).st_mode):
            return ""
        start = int.from_bytes(os.pread(file.fileno(), 8, 0), "little") or ledger_.START
        data = os.pread(file.fileno(), LONGEST_ROOT, start)
    _, root = next(ledger_.read_records(data), (0, None))
    return root.prefix if isinstance(root, messages.Root) else ""


PATIENCE = 1.0
"""Seconds that somebody who reads our stderr has for each line. After that nobody does."""


def say(lines: list[str]) -> None:
    """Write lines to the program's stderr, if it still has one, and somebody reads it."""
    ready = poll()
    ready.register(2, POLLOUT)
    for line in lines:
        rest = f"{line}\n".encode("utf-8", "backslashreplace")
        deadline = monotonic() + PATIENCE
        while rest:
            left = deadline - monotonic()
            # Up to PIPE_BUF bytes are written at once where there is room at all: more could block, for a pipe is as
            # blocking as the program has made it.
            if left <= 0 or not ready.poll(left * 1000):
                return
            try:
                rest = rest[os.write(2, rest[:PIPE_BUF]) :]
            except BlockingIOError:
                continue
            except OSError:
                return


PIPE_BUF = 4096
