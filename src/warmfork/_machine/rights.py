"""What a process may do: its users and groups, its confinement, its root, its namespaces, its cgroup.

A child has its template's. So whoever has less must get none from there: `take` is what a client compares at each start
(6 us), `read` what the kernel says of any process, and a tracker believes.
"""

from __future__ import annotations

import os
from _struct import pack
from posix import stat

from warmfork._machine import calls, fds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

GET_NO_NEW_PRIVS, GET_SECCOMP = 39, 21

OWN = ("user ids", "group ids", "groups", "root directory", "no_new_privs", "seccomp", "capabilities")
"""The fields of what take() gives."""

_asks: tuple[Callable[[], object], ...] | None = None


def take() -> tuple[Any, ...]:
    """Give what the calling thread may do, as far as that can be asked at each start: see OWN."""
    global _asks
    if _asks is None:
        _asks = prepare()
    root = stat("/")
    return (
        os.getresuid(),
        os.getresgid(),
        tuple(sorted(os.getgroups())),
        (root.st_dev, root.st_ino),
        *(ask() for ask in _asks),
    )


def get_ids() -> tuple[int, int]:
    """Give who the tracker takes us for: the real user and group, which the kernel says with each message."""
    return os.getuid(), os.getgid()


def prepare() -> tuple[Callable[[], object], ...]:
    """Make the calls for what no module of Python's asks."""
    try:
        return (
            *(calls.prepare("prctl", what, 0, 0, 0, 0) for what in (GET_NO_NEW_PRIVS, GET_SECCOMP)),
            prepare_capabilities(),
        )
    except (ImportError, OSError):  # an interpreter without _ctypes, or that may not use it
        return (lambda: -1, lambda: -1, lambda: -1)


VERSION = 0x20080522
"""_LINUX_CAPABILITY_VERSION_3 (linux/capability.h): two structs of three 32-bit sets, the lower halves first."""


def prepare_capabilities() -> Callable[[], object]:
    """Make the call that gives the capabilities of the calling thread: effective, permitted and inheritable ones, in hex.
    Raises OSError."""
    found = bytearray(24)
    ask = calls.prepare("capget", pack("=Ii", VERSION, 0), calls.make_pointer(calls.get_address(found)))
    return lambda: ask() or found.hex(" ", 4)


def find_difference(mine: tuple[Any, ...], others: tuple[Any, ...]) -> str:
    """Say in which fields of take() two differ, and how: "user ids: (5, 5, 5), not (0, 0, 0)"; "" where in none."""
    pairs = zip(OWN, mine, others, strict=True)
    return "; ".join(f"{name}: {here}, not {there}" for name, here, there in pairs if here != there)


LINES = {
    b"Uid": "user ids",
    b"Gid": "group ids",
    b"Groups": "groups",
    b"CapPrm": "capabilities",
    b"CapBnd": "capability bounds",
    b"NoNewPrivs": "no_new_privs",
    b"Seccomp": "seccomp",
    b"Seccomp_filters": "seccomp filters",
}
"""Lines of /proc/PID/status that say what a process may do."""

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid_for_children", "time_for_children", "user", "uts")
"""Of /proc/PID/ns: those that a child is born into."""


def read(pid: int | str) -> dict[str, str]:
    """Give what a process may do, by the kernel's word. What can't be seen is left out; all of it, if it is dead."""
    found: dict[str, str] = {}
    try:
        for line in fds.read_file(f"/proc/{pid}/status", 65_536).splitlines():
            field, _, value = line.partition(b":")
            if field in LINES:
                found[LINES[field]] = value.strip().decode()
        # A process may be in several hierarchies. Each line is one.
        found["cgroup"] = os.fsdecode(fds.read_file(f"/proc/{pid}/cgroup", 65_536)).strip()
        root = stat(f"/proc/{pid}/root")
        found["root directory"] = f"{root.st_dev}:{root.st_ino}"
        for name in NAMESPACES:
            found[f"{name} namespace"] = os.readlink(f"/proc/{pid}/ns/{name}")
    except OSError:  # dead, or of another user: its user ids differ then
        return found
    return found


def compare(asker: dict[str, str], server: dict[str, str], tree: dict[str, str]) -> str:
    """Say what keeps a process from being served by that template, of that tree: "" where nothing does.

    In each field it must be as the template, or as the tree was begun: a template that a preload has confined serves
    the program that wanted it so. It may have more capabilities. Root may not have fewer, though mostly it gets them back
    by exec: the kernel does not say of whom that is true (SECBIT_NOROOT).
    What can't be seen of it may be anything, so it is a difference: whoever hides could be confined.
    """
    found = []
    for name in {**server, **tree}:
        allowed = [known[name] for known in (server, tree) if name in known]
        value = asker.get(name)
        if value is None:
            found.append(f"{name}: can't be seen (is this process not dumpable?), not {allowed[0]}")
            continue
        if value in allowed:
            continue
        if name in CAPABILITIES and not int(allowed[0], 16) & ~int(value, 16):
            continue
        found.append(f"{name}: {value}, not {allowed[0]}")
    return "; ".join(found)


CAPABILITIES = ("capabilities", "capability bounds")

OVER_FILES = (
    "user ids", "group ids", "groups", "capabilities", "capability bounds", "no_new_privs", "seccomp", "seccomp filters",
    "user namespace",
)  # fmt: skip
"""Of what read() gives: what may keep a process from removing a file in a folder that it has open."""


BEFORE_STARTS = ("user ids", "group ids", "groups", "capabilities", "no_new_privs", "seccomp")
"""Of what read() gives: what is looked at again before each start."""


def find_less(asker: int, tree: int | str) -> str:
    """Say what keeps a process from being served by this one, of what is looked at before each start. `tree`: a process that
    is as the tree was begun."""
    known = [{name: value for name, value in read(pid).items() if name in BEFORE_STARTS} for pid in ("self", tree)]
    return compare(read(asker), known[0], known[1])


BY_PATH = ("root directory", "mnt namespace")
"""Of what read() gives: what may keep a process from removing what has a path, as shared memory has in /dev/shm."""


def find_less_over_files(asker: int, by_path: bool) -> str:
    """Say what keeps a process from removing files as we may: "" where nothing does, as far as the kernel shows that."""
    ours = read("self")
    mine = {name: ours[name] for name in OVER_FILES + BY_PATH * by_path if name in ours}
    return compare(read(asker), mine, mine)
