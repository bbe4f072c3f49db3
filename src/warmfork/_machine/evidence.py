"""What is known of a death besides its status: the stack where a fault struck, and whether memory had run out.

Asked by whoever reaps, template and tracker, and only about deaths by the signals that it concerns: the others cost
nothing.
"""

from __future__ import annotations

import os

from warmfork._machine import fds, stacks

SIGKILL = 9
COUNT = b"oom_kill "


class Witness:
    """Remembers how many processes the kernel had killed for memory when it was last asked."""

    def __init__(self) -> None:
        self.counters = find_counters()
        self.seen = [read_count(path) for path in self.counters]

    def ask(self, status: int, pid: int, file: int) -> tuple[str, str]:
        """Give the stack that a process left in this file (-1: there is none), and why it was killed, each "" where
        nobody knows. `status` is as of waitpid()."""
        number = status & 0x7F
        if number in stacks.FATAL:
            return (stacks.read(file, pid) if file >= 0 else ""), ""
        return "", self.look() if number == SIGKILL else ""

    def look(self) -> str:
        """Say what the kernel has killed for memory since the last look, the nearest counter first, or ""."""
        found = ""
        for index, path in enumerate(self.counters):
            count = read_count(path)
            more, self.seen[index] = count - self.seen[index], count
            if more > 0 and not found:
                where = "this machine" if path == MACHINE else "its cgroup"
                found = (
                    f"killed for memory, it seems: the kernel has done so {more} more time(s) in {where}, says {path}"
                )
        return found


MACHINE = "/proc/vmstat"
"""Counts for all cgroups, and for a machine that is out of memory as a whole (Linux 4.13)."""

MOUNTS = {"": ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"), "memory": ("/sys/fs/cgroup/memory",)}
"""Controller, as /proc/PID/cgroup names it ("" is version 2), and where it is mounted by everybody."""

EVENTS = {"": "memory.events", "memory": "memory.oom_control"}
"""Of each version, the file that counts what was killed for memory."""


def list_groups() -> list[tuple[str, str, str]]:
    """List the cgroups of this process that have to do with memory: controller, mount and path below the mount. In a
    container the mount may begin where its own cgroup does: then it has no such path."""
    found = []
    for line in os.fsdecode(fds.try_to_read("/proc/self/cgroup", 65_536)).splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            found += [(controller, mount, path.rstrip("/")) for mount in MOUNTS.get(controller, ())]
    return found


def find_counters() -> list[str]:
    """List the files that count what the kernel killed for memory: of this process's cgroup, and of the machine."""
    found: list[str] = []
    for controller, mount, path in list_groups():
        name = EVENTS[controller]
        found += [file for file in (f"{mount}{path}/{name}", f"{mount}/{name}") if read_count(file) >= 0][:1]
    return [*found, *((MACHINE,) if read_count(MACHINE) >= 0 else ())]


def read_count(path: str) -> int:
    """Read how many processes were killed for memory, or -1 where this file does not say."""
    for line in fds.try_to_read(path, 65_536).splitlines():
        if line.startswith(COUNT):
            return int(line[len(COUNT) :])
    return -1
