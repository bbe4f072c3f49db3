"""What an executor is doing, as numbers; and how many workers a machine has room for."""

from __future__ import annotations

import os
from time import monotonic

from warmfork._tasks import tree
from warmfork._tasks.work import RUNNER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from warmfork.api.executor.dispatcher import Core


def count_processors() -> int:
    """Count the processors that this program may use: by its affinity, and by its cgroup's quota."""
    count = len(os.sched_getaffinity(0))
    quota = read_quota()
    return max(1, min(count, round(quota)) if quota else count)


def read_quota() -> float:
    """Read the cgroup's quota, in processors. 0: there is none."""
    for path in find_cgroups():
        try:
            with open(f"{path}/cpu.max", "rb") as file:
                quota, period = file.read().split()
        except (OSError, ValueError):
            continue
        if quota != b"max":
            return int(quota) / int(period)
    return 0.0


def find_cgroups() -> list[str]:
    """List the folders of this process's cgroup and of those around it, the nearest first (version 2)."""
    try:
        with open("/proc/self/cgroup", "rb") as file:
            lines = os.fsdecode(file.read()).splitlines()
    except OSError:
        return []
    folders = []
    for line in lines:
        number, _, path = line.split(":", 2)
        while number == "0" and path:
            folders.append(f"/sys/fs/cgroup{path.rstrip('/')}")
            path = path.rpartition("/")[0]
    return [*folders, "/sys/fs/cgroup"]


def take(core: Core) -> dict[str, Any]:
    """Give what the executor is doing. All of it as it is in this moment; nothing waits for it."""
    now = monotonic()
    running = []
    for slot in tuple(core.slots):
        task = slot.tasks.get(slot.get_running()) if not slot.dead else None
        if task is not None and not task.done():
            running.append(
                {"pid": int(slot.page.words[RUNNER]) or slot.pid, "name": task.name, "age": now - slot.get_since()}
            )
    handed_out = sum(len(slot.tasks) for slot in tuple(core.slots))
    return {
        "workers": len(core.slots),
        "max_workers": core.workers,
        "idle": len(core.idle),
        "queued": len(core.queue) + handed_out - len(running),
        "running": running,
        **core.counts,
        "latency": {2**bits / 1e9: count for bits, count in enumerate(core.latency) if count},
        "memory": measure(core),
    }


def measure(core: Core) -> dict[int, int]:
    """Give the bytes that each worker and all below it hold beyond its template, by pid."""
    templates: dict[int, int] = {}
    found = {}
    for slot in tuple(core.slots):
        child = slot.child
        if child is None or slot.dead:
            continue
        template = child._channel.pid
        if template not in templates:
            templates[template] = tree.get_held(template)
        processes = (slot.pid, *tree.list_descendants(slot.pid))
        found[slot.pid] = sum(max(0, tree.get_held(pid) - templates[template]) for pid in processes)
    return found
