"""What a process has of its memory for itself, and what it shares, as the kernel counts it."""

from __future__ import annotations


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
