"""Runs one suite as its only child and tells what it left: processes, /dev/shm entries, files.

It is the sub-reaper of everything that the suite starts, so its descendants are the suite's, all of them, whatever
became of their parents. A JSON request comes on stdin, the JSON answer goes to stdout.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

_PR_SET_CHILD_SUBREAPER = 36
_CLONE_NEWNS = 0x00020000
_MS_REC_PRIVATE = 0x4000 | (1 << 18)
_SHM = Path("/dev/shm")
# What the stdlib's own tests leave in the temp folder on the stdlib's engine too.
_USUAL_FILES = ("pymp-",)


def _become_reaper(libc: ctypes.CDLL) -> None:
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def _take_own_shm(libc: ctypes.CDLL) -> bool:
    """Mount a /dev/shm of our own where we may: then whatever is in it is the suite's, on a busy machine too."""
    if libc.unshare(_CLONE_NEWNS):
        return False
    if libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None):
        return False
    return not libc.mount(b"tmpfs", str(_SHM).encode(), b"tmpfs", 0, b"mode=1777")


def list_descendants() -> dict[int, str]:
    """Give the live processes below this one and their command lines."""
    parents: dict[int, int] = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            stat = Path(entry.path, "stat").read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue  # It ended while we looked.
        state, parent = stat.rpartition(")")[2].split()[:2]
        if state not in "ZX":
            parents[int(entry.name)] = int(parent)
    found: dict[int, str] = {}
    for pid in parents:
        above = parents[pid]
        while above in parents and above != os.getpid():
            above = parents[above]
        if above == os.getpid():
            found[pid] = _read_command(pid)
    return found


def _read_command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:150].strip()
    except (FileNotFoundError, ProcessLookupError):
        return "(ended)"


def _reap(runner: int) -> int | None:
    """Collect every child that has ended; give the runner's wait status if it is among them."""
    status = None
    while True:
        try:
            pid, code = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if pid == 0:
            return status
        if pid == runner:
            status = code


def _wait_for_runner(runner: int, wake: int, deadline: float) -> int | None:
    """Reap until the runner has ended; None if the deadline came first."""
    while time.monotonic() < deadline:
        status = _reap(runner)
        if status is not None:
            return status
        if select.select([wake], [], [], max(0.0, deadline - time.monotonic()))[0]:
            os.read(wake, 4096)
    return None


def _end_rest(grace: float) -> list[str]:
    """Wait for the runner's descendants to end by themselves; kill and name those that do not."""
    deadline = time.monotonic() + grace
    while time.monotonic() < deadline:
        pids = list_descendants()
        if not pids:
            _reap(0)
            return []
        _wait_until_gone(next(iter(pids)), deadline)
        _reap(0)
    left: list[str] = []
    while pids := list_descendants():
        left += [f"process {pid}: {command}" for pid, command in pids.items()]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        _wait_until_gone(next(iter(pids)), time.monotonic() + 10)
        _reap(0)
    return left


def _wait_until_gone(pid: int, deadline: float) -> None:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
    finally:
        os.close(fd)


def _is_maker_dead(name: str) -> bool:
    """Does this semaphore's name say who made it, a process of our pid namespace that is dead? Others' are none of ours,
    though nobody has them mapped."""
    parts = name.removeprefix("sem.mp-").split(".")
    if not name.startswith("sem.mp-") or len(parts) != 3:
        return False
    namespace, pid, _ = parts
    return namespace == f"{os.stat('/proc/self/ns/pid').st_ino:x}" and not os.path.exists(f"/proc/{int(pid, 16)}")


def _list_left_shm(before: set[str], own_shm: bool) -> list[str]:
    """Give what is new in /dev/shm. In one that others use too, only what a process that is
    dead has provably made counts, and is removed."""
    new = set(os.listdir(_SHM)) - before
    if own_shm or not new:
        return sorted(new)
    new = {name for name in new if _is_maker_dead(name)}
    for name in new:
        (_SHM / name).unlink(missing_ok=True)
    return sorted(new)


def _start(request: dict[str, Any]) -> int:
    command, log = request["command"], request["log"]
    os.chdir(request["cwd"])
    return os.posix_spawn(
        command[0],
        command,
        request["env"],
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigdef=[signal.SIGPIPE],
    )


def supervise(request: dict[str, Any]) -> dict[str, Any]:
    """Run the command of the request under its time limit, wait for all that it started, and report."""
    libc = ctypes.CDLL(None, use_errno=True)
    _become_reaper(libc)
    own_shm = _take_own_shm(libc)
    shm_before = set(os.listdir(_SHM))
    wake, wake_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
    began = time.monotonic()
    runner = _start(request)
    status = _wait_for_runner(runner, wake, began + request["limit"])
    seconds = time.monotonic() - began
    timed_out = status is None
    if timed_out:
        os.kill(runner, signal.SIGABRT)  # faulthandler then writes where every thread was.
        status = _wait_for_runner(runner, wake, time.monotonic() + 10)
    left = _end_rest(0.0 if timed_out else request["grace"])
    left += [f"{_SHM}/{name}" for name in _list_left_shm(shm_before, own_shm)]
    for folder in request["watch"]:
        left += [f"file {name}" for name in sorted(os.listdir(folder)) if not name.startswith(_USUAL_FILES)]
    return {
        "returncode": None if status is None else os.waitstatus_to_exitcode(status),
        "timed_out": timed_out,
        "seconds": round(seconds, 1),
        "left": left,
    }


if __name__ == "__main__":
    try:
        json.dump(supervise(json.load(sys.stdin)), sys.stdout)
    except KeyboardInterrupt:
        _end_rest(0.0)
        sys.exit(130)
