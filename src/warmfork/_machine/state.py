"""A process's state as a child is to have it: take it in the client, apply in the child what differs there.

Environment, argv, sys.path and working directory are said only where they differ from what the template was born with;
the rest is one tuple of small values that is always said (25 us to take), and costs the child a comparison.
"""

from __future__ import annotations

import os
import sys
from itertools import islice
from posix import getpid, stat
from resource import RLIM_INFINITY, RLIMIT_FSIZE, getrlimit, setrlimit

from warmfork._machine import fds, signals, stacks, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

EPERM = 1
LIMITS = range(16)
"""RLIM_NLIMITS of Linux (asm-generic/resource.h)."""


class Baseline:
    """What a template was born with and its children have unless told otherwise."""

    __slots__ = ("argv", "cwd", "environment", "sys_path")

    def __init__(
        self,
        environment: dict[bytes, bytes] | None,
        argv: list[str],
        sys_path: list[str],
        cwd: tuple[int, int],
    ) -> None:
        self.environment, self.argv, self.sys_path, self.cwd = environment, argv, sys_path, cwd


def get_environment() -> dict[bytes, bytes]:
    """Give the environment as bytes: the mapping behind os.environ, not to be changed."""
    data = getattr(os.environ, "_data", None)
    if type(data) is dict:
        return data
    # Somebody has put another mapping in its place, as tests do.
    return {os.fsencode(name): os.fsencode(value) for name, value in os.environ.items()}


def split_environment(lines: tuple[str, ...]) -> dict[bytes, bytes]:
    """Give the environment that "NAME=value" lines stand for."""
    found = {}
    for line in lines:
        name, _, value = os.fsencode(line).partition(b"=")
        found[name] = value
    return found


def join_environment(environment: dict[bytes, bytes]) -> tuple[str, ...]:
    """Give an environment as "NAME=value" lines."""
    return tuple(os.fsdecode(name + b"=" + value) for name, value in environment.items())


class KeptFile:
    """A file about this process in /proc/self, read through an fd that is kept open: 3 us where an open() takes 15."""

    __slots__ = ("fd", "identity", "path", "pid")

    def __init__(self, path: str) -> None:
        self.path, self.pid, self.fd, self.identity = path, 0, -1, (0, 0)

    def read(self, size: int) -> bytes:
        """Read its first bytes; none where it can't be read."""
        try:
            # A fork's copy of the fd still names the parent; and the program may have closed all its fds (M9).
            if self.pid != getpid() or not fds.is_still(self.fd, self.identity):
                self.fd = move_high(os.open(self.path, os.O_RDONLY | os.O_CLOEXEC))
                self.pid, self.identity = getpid(), fds.identify(self.fd)
            return os.pread(self.fd, size, 0)
        except OSError:
            self.pid = 0
            return b""


OOM_SCORE, STATUS = KeptFile("/proc/self/oom_score_adj"), KeptFile("/proc/self/status")


def move_high(fd: int) -> int:
    """Move an fd that is kept for long out of the way of low numbers, which programs close and reuse."""
    from fcntl import F_DUPFD_CLOEXEC, fcntl

    try:
        high = fcntl(fd, F_DUPFD_CLOEXEC, 200)
    except OSError:  # the limit of open files is lower than that
        return fd
    os.close(fd)
    return high


def is_file_limited() -> bool:
    """Is there a limit of the size of the files that this process may write (ulimit -f)? Memfds are files in this."""
    return stacks.is_limited(getrlimit(RLIMIT_FSIZE))


class LiftedFileLimit:
    """For a `with` block: that limit as high as we may have it."""

    def __enter__(self) -> None:
        self.limits = getrlimit(RLIMIT_FSIZE)
        if not stacks.is_limited(self.limits):
            return
        try:
            setrlimit(RLIMIT_FSIZE, (RLIM_INFINITY, RLIM_INFINITY))
        except (ValueError, OSError):  # only root may raise the hard limit
            setrlimit(RLIMIT_FSIZE, (self.limits[1], self.limits[1]))

    def __exit__(self, *_: object) -> None:
        if stacks.is_limited(self.limits):
            setrlimit(RLIMIT_FSIZE, self.limits)


def read_umask() -> int | None:
    """Read the umask; None where nobody says it, and setting it, which is the other way to learn it, could reach files
    that another thread creates at this moment."""
    _, found, rest = STATUS.read(128).partition(b"\nUmask:\t")
    if found and b"\n" in rest:
        return int(rest[: rest.index(b"\n")], 8)
    if len(sys._current_frames()) > 1:
        return None
    masks = [0o77]
    # Sets the umask to the first of the list, adds what it was, sets it to that: all in one call, in which no signal
    # handler can come, and raise, and leave it changed.
    masks.extend(islice(map(os.umask, masks), 2))
    return masks[1]


def take_always_said() -> tuple[Any, ...]:
    """Take what is always said: see NAMES. Of the calling thread where the kernel keeps it by thread."""
    return (
        read_umask(),
        os.getpriority(os.PRIO_PROCESS, 0),
        frozenset(os.sched_getaffinity(0)),
        syscalls.get_scheduler(),
        tuple(map(getrlimit, LIMITS)),
        signals.list_ignored(),
        signals.get_mask(),
        OOM_SCORE.read(16),
        os.getpgrp(),
    )


NAMES = ("umask", "nice", "affinity", "scheduler", "limits", "ignored signals", "signal mask", "oom_score_adj", "group")


def take(born: Baseline, here: str) -> dict[str, Any]:
    """Take the state of the calling thread, as a value that marshal can write; `here` is the folder that "" in sys.path
    stands for. The working directory is not in it: an fd says it (see is_elsewhere)."""
    state: dict[str, Any] = {"small": take_always_said()}
    environment = get_environment()
    if environment != born.environment:
        state["environment"] = dict(environment)
    if sys.argv != born.argv:
        state["argv"] = [str(argument) for argument in sys.argv]
    if sys.path != born.sys_path:
        state["sys_path"] = [entry or here for entry in sys.path if isinstance(entry, str)]  # type: ignore[redundant-expr]
    return state


def is_elsewhere(born: Baseline) -> bool:
    """Is this process's working directory another one than the template was born in?"""
    here = stat(".")
    return (here.st_dev, here.st_ino) != born.cwd


_new: dict[bytes, bytes] = {}
"""Variables that the preload has added."""


def keep_new(environment: dict[bytes, bytes]) -> None:
    """In a template after its preload: remember which variables are there that `environment` has not."""
    _new.update((name, value) for name, value in get_environment().items() if name not in environment)


def set_environment(environment: dict[bytes, bytes]) -> None:
    """Replace the environment: never merge, a removed secret must not survive (row 1). What the preload added stays where
    `environment` has no word of its own: module and variable belong together."""
    environment = {**_new, **environment}
    old = dict(get_environment())
    for name in old.keys() - environment.keys():
        os.unsetenv(name)  # where os.environ is what a script has put in its place, that does not do it
        del os.environ[os.fsdecode(name)]
    for name, value in environment.items():
        if old.get(name) != value:
            os.putenv(name, value)
            os.environ[os.fsdecode(name)] = os.fsdecode(value)
    follow_environment(old, environment)


FOLDERS = b"TMPDIR", b"TEMP", b"TMP"
"""What the tempfile module looks at, in this order."""


def follow_environment(old: dict[bytes, bytes], new: dict[bytes, bytes]) -> None:
    """Have followed what was derived from variables earlier in this process, and is not looked up again."""
    if old.get(b"TZ") != new.get(b"TZ"):
        from time import tzset

        tzset()
    tempfile: Any = sys.modules.get("tempfile")
    if tempfile is not None and any(old.get(name) != new.get(name) for name in FOLDERS):
        folder = next((old[name] for name in FOLDERS if old.get(name)), b"/tmp")
        if tempfile.tempdir == os.path.abspath(os.fsdecode(folder)):  # else somebody has chosen it
            tempfile.tempdir = None  # asked for anew


def apply(state: dict[str, Any], base: tuple[Any, ...]) -> None:
    """Give this process that state; `base` is what take_always_said() gave in the template. The signal mask and the ignored
    signals are left to the step that unblocks. Raises OSError, with what could not be applied as its filename."""
    if "environment" in state:
        set_environment(state["environment"])
    if "argv" in state:
        sys.argv = state["argv"]
    if "sys_path" in state:
        sys.path = state["sys_path"]
    for index, name in enumerate(NAMES):
        wanted = state["small"][index]
        if wanted != base[index]:
            try:
                SETTERS[name](wanted, base[index])
            except OSError as error:
                why = os.strerror(error.errno or 0)
                which = f"{name}: {error.strerror}" if error.strerror != why else name
                raise OSError(error.errno, why, which) from error


def give_back(born: tuple[Any, ...]) -> tuple[tuple[Any, ...], list[str]]:
    """In a template after its preload: have again what it was born with. Gives what its children are to count as theirs,
    and what the kernel refuses to give back: that counts as what it was born with, for no child could change it either."""
    changed = take_always_said()
    refused = []
    for index, name in enumerate(NAMES):
        if changed[index] != born[index]:
            try:
                SETTERS[name](born[index], changed[index])
            except (OSError, ValueError):
                refused.append(name)
    now = take_always_said()
    return tuple(old if name in refused else new for name, old, new in zip(NAMES, born, now, strict=True)), refused


def set_limits(wanted: tuple[tuple[int, int], ...], base: tuple[tuple[int, int], ...]) -> None:
    """Set the resource limits that differ: all that can be set, also where some can't. Raises PermissionError, which names
    those."""
    refused: list[int] = []
    for index, limits in enumerate(wanted):
        if limits != base[index]:
            try:
                setrlimit(index, limits)
            except (OSError, ValueError):  # ValueError: what was EPERM
                refused.append(index)
    if stacks.is_limited(wanted[RLIMIT_FSIZE]):
        stacks.disable()
    if refused:
        import resource

        known = {getattr(resource, name): name for name in reversed(dir(resource)) if name.startswith("RLIMIT_")}
        raise PermissionError(EPERM, ", ".join(known.get(index, f"number {index}") for index in refused))


def set_oom_score(wanted: bytes, _base: bytes) -> None:
    """Write oom_score_adj."""
    if wanted:
        with fds.Fd(os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)) as file:
            os.write(file.fileno(), wanted)


GROUP = NAMES.index("group")


def set_group(wanted: int, base: int) -> None:
    """Join the client's process group. In another session the kernel forbids it: then the template's. One of 0 is in
    another pid namespace, where nobody can join it, and this call would make a group of our own."""
    for group in filter(None, (wanted, base)):
        try:
            os.setpgid(0, group)
        except PermissionError:
            continue
        return


SETTERS: dict[str, Any] = {
    "umask": lambda wanted, base: wanted is None or os.umask(wanted),
    "nice": lambda wanted, base: os.setpriority(os.PRIO_PROCESS, 0, wanted),
    "affinity": lambda wanted, base: os.sched_setaffinity(0, wanted),
    "scheduler": lambda wanted, base: os.sched_setscheduler(0, wanted[0], os.sched_param(wanted[1])),
    "limits": set_limits,
    "ignored signals": lambda wanted, base: None,
    "signal mask": lambda wanted, base: None,
    "oom_score_adj": set_oom_score,
    "group": set_group,
}


def set_signals(state: dict[str, Any], base: tuple[Any, ...]) -> None:
    """Ignore the signals that the client ignores, and no others that the template does; then take its mask."""
    wanted, ignored = set(state["small"][5]), set(base[5])
    for number in wanted - ignored:
        signals.set_disposition(number, signals.SIG_IGN)
    for number in ignored - wanted:
        signals.set_disposition(number, signals.SIG_DFL)
    signals.set_mask(state["small"][6])
