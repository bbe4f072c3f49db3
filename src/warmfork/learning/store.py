"""Where what was learnt is kept: two files a program in the user's cache folder, which nobody else may write to."""

from __future__ import annotations

import os
import stat
import sys

from warmfork.learning.record import LARGEST, LARGEST_REPORTS, Record

FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
LEARNT, REPORTS, TRYING = ".learnt", ".reports", ".trying"
MOST_FILES = 5000


def find_folder() -> str:
    """Give the folder's path: in XDG_CACHE_HOME, or in ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not base.startswith("/"):
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "warmfork")


def is_trusted(info: os.stat_result) -> bool:
    """Does this belong to this user, so that nobody else can write to it?"""
    return info.st_uid == os.geteuid() and not info.st_mode & 0o022


def open_folder() -> str:
    """Give the folder, made if need be. Raises OSError, also where others can write to it."""
    folder = find_folder()
    os.makedirs(folder, 0o700, exist_ok=True)
    info = os.lstat(folder)
    if not stat.S_ISDIR(info.st_mode) or not is_trusted(info):
        raise PermissionError(f"{folder} is not this user's alone")
    return folder


def name_program(script: str) -> str:
    """Give what a program is known by: its script and its interpreter."""
    version = sys.version.split()[0]
    return " | ".join(" ".join(part.split()) for part in (os.path.realpath(script), sys.executable, version))


class Store:
    """The files of one program. Raises OSError where there can be none."""

    def __init__(self, program: str) -> None:
        from _blake2 import blake2b

        self.program = program
        key = blake2b(program.encode(errors="surrogateescape"), digest_size=16).hexdigest()
        self.base = os.path.join(open_folder(), key)

    def read(self) -> Record:
        """Give what is known; a file that is damaged, foreign, or of another program is as none."""
        try:
            record = Record.read(read_file(self.base + LEARNT, LARGEST).decode(errors="surrogateescape"))
        except (OSError, ValueError):
            return Record(self.program)
        return record if record.program == self.program else Record(self.program)

    def take_reports(self) -> bytes:
        """Give what children have reported since the last time, and begin anew. Raises OSError."""
        path = self.base + REPORTS
        data = b""
        try:
            data = read_file(path, LARGEST_REPORTS + 4096)
        except FileNotFoundError:
            data = b""
        except (OSError, ValueError):
            os.unlink(path)
        replace(path, b"")
        return data

    def write(self, record: Record) -> None:
        """Keep what is known. Raises OSError."""
        replace(self.base + LEARNT, record.write().encode(errors="surrogateescape"))

    def note_trial(self, name: str) -> None:
        """Note that this module is being imported in a template, "" for none: whoever finds a name knows that a template
        has died of it, or is at it."""
        replace(self.base + TRYING, name.encode())

    def read_trial(self) -> str:
        """Give the module that a template did not survive."""
        try:
            return read_file(self.base + TRYING, 1000).decode()
        except (OSError, ValueError):
            return ""


def read_file(path: str, most: int) -> bytes:
    """Read a file of this user. Raises OSError, and ValueError where it is too large, or not this user's alone."""
    fd = os.open(path, os.O_RDONLY | FLAGS)
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode) or not is_trusted(info) or info.st_size > most:
            raise ValueError(f"{path} is too large, or others can write to it")
        data = b""
        while len(data) <= most:
            part = os.read(fd, most + 1)
            if not part:
                break
            data += part
        return data
    finally:
        os.close(fd)


def replace(path: str, data: bytes) -> None:
    """Have a file with this content, at once. Raises OSError."""
    made = f"{path}.{os.getpid()}"
    fd = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | FLAGS, 0o600)
    try:
        while data:
            data = data[os.write(fd, data) :]
    finally:
        os.close(fd)
    os.replace(made, path)


def find_records(script: str) -> list[tuple[str, Record]]:
    """Give what is known of a script, with each interpreter: (path without ending, record). Raises OSError."""
    wanted = os.path.realpath(script)
    folder = find_folder()
    found = []
    try:
        names = sorted(os.listdir(folder))[:MOST_FILES]
    except FileNotFoundError:
        return []
    for name in names:
        if not name.endswith(LEARNT):
            continue
        path = os.path.join(folder, name)
        try:
            record = Record.read(read_file(path, LARGEST).decode(errors="surrogateescape"))
        except (OSError, ValueError):
            continue
        if record.program.split(" | ")[0] == wanted:
            found.append((path.removesuffix(LEARNT), record))
    return found


def forget(base: str) -> None:
    """Remove the files of a program. Raises OSError."""
    for ending in (LEARNT, REPORTS, TRYING):
        try:
            os.unlink(base + ending)
        except FileNotFoundError:
            continue
