"""Removing the names that the dead have left, and saying who they were."""

from __future__ import annotations

import os
import sys

from warmfork._words import ledger as ledger_

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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


def sweep_dead_trees() -> None:
    """Remove the semaphores of trees that are dead to the last process, their trackers killed with them (M20).

    A name says which pid the tree's program had, and in which namespace. A tree whose program is dead may live in its
    kept children: then there is a tracker, and it holds the ledger.
    """
    try:
        found = os.listdir("/dev/shm")
    except OSError:
        return
    here = f"{os.stat('/proc/self/ns/pid').st_ino:x}"
    dead: dict[str, list[str]] = {}
    for name in found:
        parts = name.removeprefix("sem.mp-").split(".")
        if (
            len(parts) == 3
            and parts[0] == here
            and "-" in parts[2]
            and not os.path.exists(f"/proc/{int(parts[1], 16)}")
        ):
            dead.setdefault(name[: name.rindex("-") + 1], []).append(name)
    if dead:
        for prefix in list_living_prefixes() | list_mapped_prefixes(dead):
            dead.pop(prefix, None)
    for names in dead.values():
        for name in names:
            try:
                os.unlink(f"/dev/shm/{name}")
            except OSError:  # another user's, or another tree was as quick
                continue


def list_living_prefixes() -> set[str]:
    """List the prefixes of the trees whose ledgers are held: by their trackers, programs or templates."""
    prefixes = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                path = f"/proc/{pid}/fd/{fd}"
                if "warmfork-ledger" in os.readlink(path):
                    prefixes.add(read_prefix(path))
        except OSError:  # it ended meanwhile, or is another user's
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


def read_prefix(path: str) -> str:
    """Read from a ledger how its tree's semaphores begin."""
    with open(path, "rb") as file:
        root = ledger_.find_root(file)
    return root.prefix if root is not None else ""


def say(line: str) -> None:
    """Write a line to the program's stderr, if it still has one."""
    try:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    except (AttributeError, OSError, ValueError):
        return
