"""Removing the names that the dead have left, and saying who they were."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from warmfork._words.ledger import Entry


def read_title(pid: int) -> str:
    """Give what ps shows for this process, or "" where it is gone."""
    try:
        fd = os.open(f"/proc/{pid}/cmdline", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, 300).replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:  # it died between open and read
        return ""
    finally:
        os.close(fd)


def get_remover(kind: str) -> Callable[[str], None] | None:
    """Give what removes a name of this kind."""
    if kind == "semaphore":
        from _multiprocessing import sem_unlink

        return sem_unlink  # type: ignore[no-any-return]
    if kind == "shared_memory":
        from _posixshmem import shm_unlink  # type: ignore[import-not-found]

        return shm_unlink  # type: ignore[no-any-return]
    if kind == "file":
        return os.unlink
    if kind == "folder":
        from shutil import rmtree

        return rmtree
    return None


FILES = ("file", "folder")


def remove(entry: Entry, complain: Callable[[str], None]) -> None:
    """Remove what this name names."""
    remover = get_remover(entry.kind)
    if remover is not None:
        try:
            remover(entry.name)
        except OSError as error:
            complain(f"resource_tracker: {entry.name!r}: {error}")


def sweep(entries: list[Entry], mixed: bool) -> int:
    """Remove these names, all that are left, and say so on the program's stderr. Gives how many there were.

    The first line is the stdlib's to the letter, since programs and CPython's tests look for it.
    """
    # Where the stdlib's own tracker runs beside us, it removes the names that it heard of: those are nobody's loss. Nor
    # are files that somebody has removed without a word.
    left = [entry for entry in entries if still_exists(entry) or not (mixed or entry.kind in FILES)]
    for kind in dict.fromkeys(entry.kind for entry in left):
        entries = [entry for entry in left if entry.kind == kind]
        names = ", ".join(sorted(repr(entry.name) for entry in entries))
        say(
            f"resource_tracker: There appear to be {len(entries)} leaked {kind} objects to clean up at shutdown: "
            f"{{{names}}}"
        )
        for entry in entries:
            remove(entry, say)
        for maker in dict.fromkeys((entry.maker, entry.title) for entry in entries):
            count = sum((entry.maker, entry.title) == maker for entry in entries)
            say(f"warmfork: tracker: {count} of them made by pid {maker[0]} ({maker[1] or 'unknown'})")
    return len(left)


def still_exists(entry: Entry) -> bool:
    """Is the name still there? Linux shows both kinds in /dev/shm."""
    name = entry.name.lstrip("/")
    if entry.kind == "semaphore":
        return os.path.exists(f"/dev/shm/sem.{name}")
    if entry.kind == "shared_memory":
        return os.path.exists(f"/dev/shm/{name}")
    if entry.kind in FILES:
        return os.path.lexists(entry.name)
    return True


def sweep_prefix(prefix: str) -> None:
    """Remove this tree's semaphores that were made and never registered: their maker died in between (M20)."""
    if not prefix:
        return
    try:
        found = os.listdir("/dev/shm")
    except OSError:  # no /dev/shm: no semaphores
        return
    for name in found:
        if name.startswith(prefix):
            try:
                os.unlink(f"/dev/shm/{name}")
            except FileNotFoundError:
                continue


def say(line: str) -> None:
    """Write a line to the program's stderr, if it still has one."""
    try:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    except (AttributeError, OSError, ValueError):
        return
