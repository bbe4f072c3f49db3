"""Processes by pidfd: open, signal, wait, and learn how they ended from a kernel that still knows (Linux 6.15)."""

from __future__ import annotations

import os
from select import poll

from warmfork._machine import calls, fds, syscalls

GET_INFO = 0xC050FF0B
"""PIDFD_GET_INFO, _IOWR(0xFF, 11, struct pidfd_info of 64 bytes and up), Linux 6.13."""
INFO_SIZE = 80
INFO_EXIT = 1 << 3
"""PIDFD_INFO_EXIT, Linux 6.15: the status, also after the process was reaped, at offset 60."""


def open_pidfd(pid: int) -> int:
    """Open a pidfd, which names this very process for ever. Raises ProcessLookupError where there is none."""
    return syscalls.open_pidfd(pid)


def read_pid(pidfd: int) -> int:
    """Give the pid that a pidfd names, as the kernel shows it (-1: dead, 0: outside our namespace)."""
    for line in fds.read_file(f"/proc/self/fdinfo/{pidfd}").splitlines():
        if line.startswith(b"Pid:"):
            return int(line.split()[1])
    return -1


def send_signal(pidfd: int, number: int) -> bool:
    """Send a signal to the process that the pidfd names, never to a later one with its pid. False: it is dead."""
    try:
        syscalls.send_pidfd_signal(pidfd, number)
    except ProcessLookupError:
        return False
    return True


def ask_status(pidfd: int) -> int | None:
    """Ask the kernel for the status of a dead process (as of waitpid), or None where it can't tell."""
    from fcntl import ioctl

    request = bytearray(INFO_SIZE)
    request[0:8] = INFO_EXIT.to_bytes(8, "little")
    try:
        ioctl(pidfd, GET_INFO, request)
    except OSError:
        return None  # an older kernel: ENOTTY or EINVAL; a process that is not reaped yet: ESRCH
    if not int.from_bytes(request[0:8], "little") & INFO_EXIT:
        return None
    return int.from_bytes(request[60:64], "little", signed=True)


def wait_reaped(pidfd: int, timeout: float) -> bool:
    """Wait until somebody has reaped the process, up to `timeout` seconds: from then on ask_status() knows (Linux 6.15).
    An older kernel says nothing of it."""
    reaped = poll()
    reaped.register(pidfd, 0)  # POLLHUP is always told
    return bool(reaped.poll(timeout * 1000))


def read_stat(pid: int) -> list[bytes]:
    """Read what /proc says of a process, from its state on (field 3 of proc_pid_stat(5)). Nothing where there is none."""
    return fds.try_to_read(f"/proc/{pid}/stat").rpartition(b")")[2].split()


def read_zombie_status(pidfd: int) -> int | None:
    """Read the status of a process that is dead and not reaped: field 52 of its stat. None where it can't be told."""
    pid = read_pid(pidfd)
    fields = read_stat(pid) if pid > 0 else []
    if fields[:1] != [b"Z"]:
        return None
    status = int(fields[-1])
    if status == 0 and not may_look(pid):
        return None
    # As long as nobody has reaped it, its pid is its own: all that was read was about this process.
    return status if read_pid(pidfd) == pid else None


def find_status(pidfd: int, timeout: float = 0.05) -> int | None:
    """Find the status of a dead process whoever is its parent, or None where it can't be told. The parent may be reaping
    it at this moment: then it is no zombie any longer, and the kernel tells a moment later, within `timeout` seconds."""
    status = ask_status(pidfd)
    if status is None:
        status = read_zombie_status(pidfd)
    if status is None and wait_reaped(pidfd, timeout):
        status = ask_status(pidfd)
    return status


def may_look(zombie: int) -> bool:
    """Does the kernel show us the status of this zombie? It shows 0 to those who may not look (ptrace(2),
    PTRACE_MODE_READ_FSCREDS). The same right has a link that says: a zombie has no executable any longer."""
    try:
        os.readlink(f"/proc/{zombie}/exe")
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def become_subreaper() -> None:
    """Become the parent of all orphaned descendants (prctl PR_SET_CHILD_SUBREAPER, Linux 3.4)."""
    calls.call("prctl", 36, 1, 0, 0, 0)


TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def read_since(pid: int) -> int:
    """Read when a process was started, in ns since boot (in steps of 10 ms): with its pid, that names it for ever. 0
    where there is no such process."""
    fields = read_stat(pid)
    return int(fields[19]) * TICK_NS if fields else 0


def is_alive(pid: int, since: int) -> bool:
    """Does the process of this pid live that was started then (ns since boot)? One that is dead and not reaped does not."""
    fields = read_stat(pid)
    return bool(fields) and fields[0] not in (b"Z", b"X") and int(fields[19]) * TICK_NS == since


def read_start_stack(pid: int) -> int:
    """Read where the process's stack began, which is another place after each exec. 0 where it can't be told."""
    fields = read_stat(pid)
    return int(fields[25]) if fields else 0


def is_stopped(pid: int) -> bool:
    """Is this process stopped, or held by a debugger? It may be slow then, and hangs in nothing."""
    return read_stat(pid)[:1] in ([b"T"], [b"t"])


def open_older(pid: int, moment: int) -> int:
    """Open a pidfd on the process of this pid that lived at that moment (ns since boot), or give -1: it is dead and
    reaped. Whoever has its pid now was started later."""
    return open_started(pid, 1, moment)


def open_same(pid: int, since: int) -> int:
    """Open a pidfd on the process of this pid that was started then, or give -1: it is dead, and reaped."""
    return open_started(pid, since, since)


def open_started(pid: int, first: int, last: int) -> int:
    """Open a pidfd on the process of this pid that was started between these moments, or give -1."""
    try:
        pidfd = open_pidfd(pid)
    except (OSError, OverflowError):  # none, or no number that a process could have
        return -1
    if first <= read_since(pid) <= last:
        return pidfd
    os.close(pidfd)
    return -1


RIGHTS = (b"\nUid:", b"\nGid:", b"\nGroups:", b"\nCapPrm:", b"\nNoNewPrivs:", b"\nSeccomp:")
"""Lines of /proc/PID/status: what a process looks at itself before each start, as others see it."""


def read_rights(pid: int | str) -> list[bytes]:
    """Read what a process may do, in the kernel's words, to be compared (25 us). Raises OSError."""
    status = fds.read_file(f"/proc/{pid}/status", 65_536)
    return [status.partition(field)[2].partition(b"\n")[0] for field in RIGHTS]


def read_permitted(pid: int | str) -> int:
    """Read the capabilities that a process may have. -1 where that can't be seen."""
    _, found, rest = fds.try_to_read(f"/proc/{pid}/status").partition(b"\nCapPrm:\t")
    return int(rest[:16], 16) if found else -1


def give_up_gained() -> None:
    """Give up the capabilities that this process has by its exec and its parent has not: root gets all of them so. Then a
    tree has what the process has that began it, and nobody in it has more."""
    its = read_permitted(os.getppid())
    if its < 0 or not read_permitted("self") & ~its:
        return
    from _struct import pack, unpack

    header, sets = pack("=Ii", 0x20080522, 0), bytearray(24)  # see rights.py
    calls.call("capget", header, calls.make_pointer(calls.get_address(sets)))
    low, high = its & 0xFFFFFFFF, its >> 32
    kept = [have & keep for have, keep in zip(unpack("=6I", sets), (low, low, ~0, high, high, ~0), strict=True)]
    calls.call("capset", header, pack("=6I", *kept))
