"""Memory pressure: where memory is short, no spare is forked, and those that wait are to leave. They are the first to go.

Short is: little of the machine's memory is available, or little of what a cgroup leaves to it. It is looked at before
each spare is forked, which is when it matters; and where the kernel can tell (PSI, Linux 4.20; without privilege 6.4), it
wakes an idle template whose spares would otherwise keep what others wait for.
"""

from __future__ import annotations

import os

from warmfork._machine import evidence, fds

SCARCE = 10
"""Per cent of memory: with less available, no spares."""

PSI = "/proc/pressure/memory"
TRIGGER = b"some 200000 2000000"
"""Tell when processes have waited for memory for 200 ms of 2 s (us): the window that needs no privilege."""

FILES = {
    "": ("memory.max", "memory.current", b"inactive_file "),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", b"total_inactive_file "),
}
"""Of each version: the limit, what is used, and the line of memory.stat that says what of it the kernel would give back."""

UNLIMITED = 1 << 60
"""Version 1 says "no limit" by a number near 2**63."""


def is_scarce(limits: list[tuple[str, str]]) -> bool:
    """Is memory short, on the machine or in one of these cgroups (as find_limits() gives them)?"""
    if is_machine_scarce():
        return True
    return any(is_group_scarce(folder, controller) for folder, controller in limits)


def is_machine_scarce() -> bool:
    """Has the machine little memory available?"""
    found = {
        line.split()[0]: int(line.split()[1])
        for line in fds.try_to_read("/proc/meminfo").splitlines()
        if line.startswith((b"MemTotal:", b"MemAvailable:"))
    }
    return found.get(b"MemAvailable:", 1) * 100 < found.get(b"MemTotal:", 1) * SCARCE


def is_group_scarce(folder: str, controller: str) -> bool:
    """Is this cgroup close to its limit?"""
    limit_file, usage_file, line = FILES[controller]
    limit, used = read_number(f"{folder}/{limit_file}"), read_number(f"{folder}/{usage_file}")
    if limit < 0 or used < 0:
        return False
    for row in fds.try_to_read(f"{folder}/memory.stat", 16_384).splitlines():
        if row.startswith(line):
            used -= int(row[len(line) :])
    return (limit - used) * 100 < limit * SCARCE


def find_limits() -> list[tuple[str, str]]:
    """List the cgroups of this process that have a limit, its own and those above, each as folder and controller."""
    found = []
    for controller, mount, path in evidence.list_groups():
        parts = [part for part in path.split("/") if part]
        for length in range(len(parts), -1, -1):
            folder = "/".join([mount, *parts[:length]])
            if 0 <= read_number(f"{folder}/{FILES[controller][0]}") < UNLIMITED:
                found.append((folder, controller))
    return found


def read_number(path: str) -> int:
    """Read a file that is one number; -1 where it is none ("max"), or not there."""
    text = fds.try_to_read(path).strip()
    return int(text) if text.isdigit() else -1


def open_trigger(path: str = PSI) -> int:
    """Give an fd on which epoll tells of pressure (EPOLLPRI), or -1 where the kernel has none for us."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return -1
    try:
        os.write(fd, TRIGGER + b"\0")
    except OSError:
        os.close(fd)
        return -1
    return fd
