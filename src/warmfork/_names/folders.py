"""The folders of tracked files: whoever tracks one passes an fd of the folder that it is in, and it is removed there,
whatever its path means by then, or means in another root or mount namespace."""

from __future__ import annotations

import os
from fcntl import F_GETFL, fcntl

from warmfork._machine import fds, sockets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from warmfork._names.kept import Entry, KeptNames

KINDS = ("file", "folder")
"""Kinds of names that are in a folder."""

PATH_OF_FOLDER = os.O_PATH | os.O_DIRECTORY
PRUNE_FROM = 64

MOST = 1024
"""Folders that are kept open. Those of later names are looked up by their paths, as in a successor: or whoever tracks files
in as many folders as the tracker may have files open, would leave it none to serve others."""

ESTALE = 116


class Folders:
    """Fds on folders, one for each."""

    def __init__(self, kept: KeptNames) -> None:
        self.kept = kept
        self.known: dict[tuple[int, int], fds.Fd] = {}
        self.seen = 0  # since they were pruned, and those that were left then
        self.prune_at = PRUNE_FROM

    def keep(self, kind: str, name: str, got: sockets.Received) -> tuple[int, int]:
        """Take the folder of a name from the end of what came along, and give what identifies it. Nothing comes along for
        names of other kinds. Raises ValueError where it is no folder, or the name none that can be in one."""
        if kind not in KINDS:
            if "\0" in name:
                raise ValueError("a name has no NUL")
            return 0, 0
        if "\0" in name or os.path.basename(name) in ("", ".", ".."):
            raise ValueError(f"nothing in a folder has the name {name!r}")
        if not got.fds:
            raise ValueError("no folder came along")
        # The flags say it without asking any file system: it was opened as a folder, and only to be named.
        if fcntl(got.fds[-1], F_GETFL) & PATH_OF_FOLDER != PATH_OF_FOLDER:
            raise ValueError("what came along is no folder that was opened with O_PATH and O_DIRECTORY")
        folder = got.take(-1)
        identity = fds.identify(folder.fileno())
        if identity not in self.known:
            self.seen += 1
            if self.seen >= self.prune_at:
                self.prune()
            if len(self.known) < MOST:
                self.known[identity] = folder
        return identity

    def prune(self) -> None:
        """Close those in which nothing is tracked any longer."""
        needed = {entry.folder for entry in self.kept.entries.values()}
        for identity in self.known.keys() - needed:
            self.known.pop(identity).close()
        self.seen = len(self.known)
        self.prune_at = max(PRUNE_FROM, 2 * self.seen)

    def list_fds(self) -> list[int]:
        """List them, for a process that is to have nothing else."""
        return [folder.fileno() for folder in self.known.values()]

    def open(self, entry: Entry) -> fds.Fd:
        """Open the folder of an entry: as it was passed to us; else, in a successor, or where there were too many, by its
        path. Raises OSError where it is another folder by now."""
        known = self.known.get(entry.folder)
        if known is not None:
            return fds.Fd(os.dup(known.fileno()))
        path = os.path.dirname(entry.name)
        folder = fds.Fd(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        if fds.identify(folder.fileno()) != entry.folder:
            folder.close()
            raise OSError(ESTALE, "this folder is another by now than the one in which it was tracked", path)
        return folder
