"""What /proc shows of other processes: their open files, the processes that their pidfds name, their share of memory.

A process may end between two reads, and may be none of ours to look at: then there is nothing to see, and no error.
"""

from __future__ import annotations

import os
from mmap import mmap
from stat import S_ISREG

from warmfork._machine import memory


def list_files(pid: int) -> dict[int, str] | None:
    """Give what each fd of a process is open on, or None where it can't be seen."""
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return None
    found = {}
    for number in numbers:
        try:
            found[int(number)] = os.readlink(f"/proc/{pid}/fd/{number}")
        except OSError:  # closed meanwhile
            continue
    return found


def read_field(path: str, name: bytes) -> int | None:
    """Give the first number of a line "NAME: 123 ..." of such a file, or None."""
    try:
        with open(path, "rb") as file:
            for line in file:
                if line.startswith(name):
                    return int(line[len(name) :].split()[0])
    except OSError:
        return None
    return None


def read_pidfd(pid: int, fd: int) -> int | None:
    """Give the pid that another process's pidfd names (-1: it is dead)."""
    return read_field(f"/proc/{pid}/fdinfo/{fd}", b"Pid:")


class Share:
    """A process's resident memory in KiB, by who else has it mapped."""

    __slots__ = ("huge", "pss", "shared", "uss")

    def __init__(self, uss: int, pss: int, shared: int, huge: int) -> None:
        self.uss = uss  # nobody else: what would be free without this process
        self.pss = pss  # that, and of what is shared its part
        self.shared = shared  # others too; for a forked child these are its template and its siblings
        self.huge = huge  # of all of it, what is in huge pages


def read_share(pid: int) -> Share | None:
    """Read from smaps_rollup (Linux 4.14) what a process has for itself and what it shares. None where the kernel does
    not let us, or the process is gone."""
    found: dict[bytes, int] = {}
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            next(file)  # the addresses
            for line in file:
                name, value = line.split()[:2]
                found[name] = int(value)
    except (OSError, ValueError, StopIteration):
        return None
    if b"Pss:" not in found:
        return None  # of a process without memory: a zombie, a thread of the kernel
    get = found.get
    return Share(
        uss=get(b"Private_Clean:", 0) + get(b"Private_Dirty:", 0) + get(b"Private_Hugetlb:", 0),
        pss=found[b"Pss:"],
        shared=get(b"Shared_Clean:", 0) + get(b"Shared_Dirty:", 0) + get(b"Shared_Hugetlb:", 0),
        huge=get(b"AnonHugePages:", 0) + get(b"Private_Hugetlb:", 0) + get(b"Shared_Hugetlb:", 0),
    )


def map_file(pid: int, fd: int, size: int) -> tuple[tuple[int, int], mmap] | None:
    """Map a file that another process has open, for reading. Gives it with what identifies the file, or None where it
    is gone, can't be opened, is no file of a file system, or is shorter than `size`; whatever it is, nobody is waited
    for. Of a file that its holder may cut short, which would end us by SIGBUS, it is a copy."""
    try:
        mine = os.open(f"/proc/{pid}/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        info = os.fstat(mine)
        if not S_ISREG(info.st_mode) or info.st_size < size:
            return None
        identity = info.st_dev, info.st_ino
        if memory.has_seal(mine, memory.SEAL_SHRINK):
            return identity, memory.map_readable(mine, size)
        copy = mmap(-1, size)
        os.preadv(mine, [copy], 0)
        return identity, copy
    except OSError:
        return None
    finally:
        os.close(mine)
