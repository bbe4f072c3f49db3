"""What a test has left behind: processes, fds, entries of /dev/shm, temporary files. tests/conftest.py asks after each.

What is left has DEADLINE seconds to go: a process that is ending is no leftover. What stays on purpose, and is none:

- this program's tracker, which lives as long as its program, and the stdlib's resource tracker where a test needed it;
- the fds that a client keeps for good: the two ends of the door, and of its own socket, the ledger, a pidfd on its
  tracker, one on itself, its
  oom_score_adj;
- multiprocessing's own temporary folder and arenas, one for each program.

A template that was started in this program is let go of first (a context has no end of its own). Fixtures of a wider
scope keep theirs where they start it in the fixture itself (`wait_ready()`), and not in the first test.
"""

from __future__ import annotations

import fcntl
import gc
import os
import re
import select
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from warmfork._machine import memory, syscalls

DEADLINE = 3.0

Identity = tuple[int, int]
"""pid and start time: a pid alone may be another's by now."""


# -- processes


def read_stat(pid: int) -> tuple[str, int] | None:
    """State and start time of a process, or None where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0].decode(), int(fields[19])


def read_title(pid: int) -> str:
    """What ps shows."""
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
        return line or f"[{Path(f'/proc/{pid}/comm').read_text().strip()}]"
    except (FileNotFoundError, ProcessLookupError):
        return "[gone]"


def list_descendants() -> dict[Identity, str]:
    """All processes below this one: state by pid and start time. Orphans are among them: see become_subreaper()."""
    found: dict[Identity, str] = {}
    parents = [os.getpid()]
    while parents:
        for pid in list_children(parents.pop()):
            stat = read_stat(pid)
            if stat is not None:
                found[pid, stat[1]] = stat[0]
                parents.append(pid)
    return found


def list_children(parent: int) -> list[int]:
    """The children of a process, of all its threads. A thread that ends hands its children to another, maybe to one that
    was read already: then all is read again."""
    while True:
        pids = []
        try:
            tasks = os.listdir(f"/proc/{parent}/task")
            for task in tasks:
                pids += map(int, Path(f"/proc/{parent}/task/{task}/children").read_bytes().split())
            if os.listdir(f"/proc/{parent}/task") == tasks:
                return pids
        except (FileNotFoundError, ProcessLookupError):  # a thread ended meanwhile, or all: its children are another's
            if not os.path.exists(f"/proc/{parent}"):
                return pids


def read_lock_holder(fd: int) -> int:
    """The pid of the process that holds the record lock on this file; 0 where nobody does, -1 where the holder is in
    another pid namespace."""
    asked = fcntl.fcntl(fd, fcntl.F_GETLK, memory.FLOCK.pack(memory.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    kind, _, _, _, pid = memory.FLOCK.unpack(asked)
    return 0 if kind == fcntl.F_UNLCK else pid or -1


def list_kept_processes() -> set[int]:
    """The pids of the trackers that live as long as this program."""
    client = get_client()
    kept = set()
    if client is not None and client.tree is not None:
        kept = {
            client.tree.tracker,
            read_lock_holder(client.tree.ledger.fileno()),
        }  # or the successor of the first
    stdlib = sys.modules.get("multiprocessing.resource_tracker")
    if stdlib is not None:
        kept.add(stdlib._resource_tracker._pid)
    return kept


def reap(found: dict[Identity, str]) -> None:
    """Reap those of them that are dead and ours: orphans become the children of this process."""
    for (pid, _), state in found.items():
        if state == "Z":
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:  # it is somebody else's to reap
                continue


def wait_for_ends(before: Iterable[Identity], deadline: float) -> dict[Identity, str]:
    """Wait until no process below us is left but those of `before` and the kept ones. Gives those that are."""
    known = set(before)
    while True:
        kept = list_kept_processes()
        found = {key: state for key, state in list_descendants().items() if key not in known and key[0] not in kept}
        reap(found)
        found = {key: state for key, state in found.items() if read_stat(key[0]) is not None}
        rest = deadline - time.monotonic()
        if not found or rest <= 0:
            return found
        wait_for_any_death([pid for (pid, _), state in found.items() if state != "Z"], min(rest, 0.2))


def wait_for_any_death(pids: list[int], timeout: float) -> None:
    """Wait until one of them is dead, or for `timeout` seconds."""
    poller = select.poll()
    fds = []
    try:
        for pid in pids:
            try:
                fds.append(syscalls.open_pidfd(pid))
            except ProcessLookupError:
                return
            poller.register(fds[-1], select.POLLIN)
        poller.poll((timeout if fds else 0.01) * 1000)  # none: zombies whose parent has yet to reap them
    finally:
        for fd in fds:
            os.close(fd)


def end(found: Iterable[Identity]) -> None:
    """End what was left, so that one test's leftovers are not counted against the next."""
    for pid, began in found:
        try:
            fd = syscalls.open_pidfd(pid)
        except ProcessLookupError:
            continue
        try:
            stat = read_stat(pid)
            if stat is not None and stat[1] == began:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        except ProcessLookupError:
            continue
        finally:
            os.close(fd)


# -- fds


def list_fds() -> dict[int, str]:
    """The open fds of this process, and what each is open on."""
    found = {}
    for entry in os.listdir("/proc/self/fd"):
        try:
            found[int(entry)] = os.readlink(f"/proc/self/fd/{entry}")
        except FileNotFoundError:  # listdir's own
            continue
    return found


def list_kept_fds() -> set[int]:
    """The fds that are kept for good."""
    kept = set()
    client = get_client()
    if client is not None:
        if client.door is not None:
            kept.add(client.door.fileno())
        if client.tree is not None:
            tree = client.tree
            its = (tree.pidfd, tree.receiver, tree.ledger, tree.own, tree.own_receiver)
            kept.update(fd.fileno() for fd in its)
            kept.update(fd.fileno() for _, *pair in client.tree.left for fd in pair)
    if "warmfork._client.feeding" in sys.modules:
        kept.add(sys.modules["warmfork._client.feeding"]._own[1])
    if "warmfork._machine.state" in sys.modules:
        state = sys.modules["warmfork._machine.state"]
        kept |= {state.OOM_SCORE.fd, state.STATUS.fd}
    stdlib = sys.modules.get("multiprocessing.resource_tracker")
    if stdlib is not None:
        kept.add(stdlib._resource_tracker._fd)
    return kept


def is_arena(target: str) -> bool:
    """Is this fd on an arena of multiprocessing.heap, which keeps them for the next Array?"""
    return target.startswith(f"/dev/shm/pym-{os.getpid()}-")


# -- names


def list_shared_memory() -> set[str]:
    """The entries of /dev/shm."""
    return set(os.listdir("/dev/shm"))


def has_own_shm() -> bool:
    """Is this /dev/shm for these tests alone? Whoever has mounted it for them says so by TESTS_OWN_SHM=1."""
    return os.environ.get("TESTS_OWN_SHM") == "1"


def drop_strangers(names: set[str]) -> set[str]:
    """Leave out what is not provably ours, or made by a process that is dead: this machine may run other programs, whose
    names are theirs also while nobody has them mapped. In a /dev/shm of the tests' own, all is ours."""
    if not names or has_own_shm():
        return names
    ours = {pid for pid, _ in list_descendants()} | {os.getpid()}
    found = {name for name in names if (maker := read_maker(name)) and (maker in ours or not is_alive(maker))}
    for pid in ours:
        try:
            text = Path(f"/proc/{pid}/maps").read_text()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        found |= {name for name in names if f"/dev/shm/{name}\n" in text}
    return found


def read_maker(name: str) -> int | None:
    """The pid in a name that a tree of warmfork's made in this pid namespace, or None. Pids of
    another namespace say nothing here: a process of ours may have the same."""
    found = re.match(r"sem\.mp-([0-9a-f]+)\.([0-9a-f]+)\.[0-9a-f]{4}-", name)
    if found:
        return int(found[2], 16) if int(found[1], 16) == os.stat("/proc/self/ns/pid").st_ino else None
    return None


def remove_names(names: Iterable[str]) -> None:
    """Remove those of these entries of /dev/shm that are ours beyond doubt."""
    for name in drop_strangers(set(names)):
        Path("/dev/shm", name).unlink(missing_ok=True)


def is_alive(pid: int) -> bool:
    """Is there a process of this pid?"""
    return os.path.exists(f"/proc/{pid}")


def list_temporary_files(folder: Path) -> set[str]:
    """What lies in the private TMPDIR, but for the folder that multiprocessing keeps for the life of a program."""
    found = set(os.listdir(folder))
    process = sys.modules.get("multiprocessing.process")
    if process is not None:
        found.discard(os.path.basename(process.current_process()._config.get("tempdir") or ""))
    return found


# -- the client of this program


def get_client() -> object | None:
    """This program's client, if it has one."""
    module = sys.modules.get("warmfork._client.client")
    client = module._client if module is not None else None
    return client if client is not None and client.pid == os.getpid() else None


def let_go_of_templates(kept: set[object]) -> None:
    """Close the channels that the test opened: the templates behind them end."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None:
        process.active_children()  # drops the process objects of the dead
    client = get_client()
    if client is not None:
        for key in set(client.channels) - kept:
            client.retired.append(client.channels.pop(key))
        client.close_retired(owed=True)
        client.tidy()


# -- all together


class Snapshot:
    """What there was before a test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes = list_descendants()
        self.fds = list_fds()
        self.kept_fds = list_kept_fds()
        self.channels = set(client.channels) if (client := get_client()) is not None else set()
        self.names = list_shared_memory()
        self.files = list_temporary_files(folder)

    def collect(self, patience: float = DEADLINE) -> list[str]:
        """Say what is there now and was not before, one line each, after `patience` seconds. Ends what it can."""
        deadline = time.monotonic() + patience
        let_go_of_templates(self.channels)
        left = wait_for_ends(self.processes, deadline)
        found = [f"process {pid} ({state}): {read_title(pid)}" for (pid, _), state in left.items()]
        if left:
            end(left)
            wait_for_ends(self.processes, time.monotonic() + DEADLINE)
        found += wait_for_none(self.compare_fds, deadline)
        names = wait_for_none(lambda: sorted(drop_strangers(list_shared_memory() - self.names)), deadline)
        found += [f"/dev/shm/{name}" for name in names]
        remove_names(names)
        found += wait_for_none(lambda: sorted(list_temporary_files(self.folder) - self.files), deadline)
        return found

    def compare_fds(self) -> list[str]:
        """The fds that are new, gone, or open on something else."""
        now = list_fds()
        kept = list_kept_fds()
        changed = [n for n in now.keys() | self.fds.keys() if now.get(n) != self.fds.get(n)]
        lines = []
        for number in sorted(changed):
            before, after = self.fds.get(number), now.get(number)
            if (after is None and number in self.kept_fds) or number in kept or (after and is_arena(after)):
                continue
            lines.append(f"fd {number}: {before or 'closed'} before, {after or 'closed'} now")
        return lines


def wait_for_none(look: Callable[[], list[str]], deadline: float) -> list[str]:
    """Look until nothing is found or the deadline has passed, once with the garbage collected."""
    found = look()
    if found:
        gc.collect()
        found = look()
    while found and time.monotonic() < deadline:
        select.select((), (), (), 0.02)
        found = look()
    return found
