"""multiprocessing's resource tracker, spoken for by ours: what its Locks and SharedMemory register goes to our ledger.

The stdlib's object, class and process stay. Instance attributes on its one object catch all callers, also those that
took a bound `register` earlier, and we speak nobody else's wire format (row 67).
"""

from __future__ import annotations

import os
import sys
from multiprocessing import process
from posix import getpid, stat

from warmfork._machine import role
from warmfork._words import messages
from warmfork.mp.shared import watching

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    from warmfork._client.client import Client

MODULE = "multiprocessing.resource_tracker"
UTIL = "multiprocessing.util"
_stdlib_fd = -1

LONGEST = 255
"""Bytes of a name (NAME_MAX)."""


def take_over() -> None:
    """Have names registered with our tracker from now on, as soon as there is somebody who registers them."""
    if watching.WATCHED.get(MODULE) is patch or not can_work():
        return
    if role.kind == role.PROGRAM and not role.prefix:
        # Where there may be a process of this pid, this process, and what tells it from others that had it.
        try:
            namespace = stat("/proc/self/ns/pid").st_ino
        except OSError:
            namespace = 0  # no /proc: nothing can be started here, and a context may be made all the same
        tree = f"{namespace:x}.{getpid():x}.{os.urandom(2).hex()}"
        role.prefix = f"sem.mp-{tree}-"
        # All that inherit this process's configuration name their semaphores so, and what is never registered is
        # found by it at the end of the tree (M20).
        process.current_process()._config["semprefix"] = f"/mp-{tree}"  # type: ignore[attr-defined]
    watching.watch(MODULE, patch)
    watching.watch(UTIL, patch_util)


def can_work() -> bool:
    """Can a tracker of ours run here? Where not, names stay with the stdlib's, as the starts are left to spawn."""
    if role.kind != role.PROGRAM:
        return True
    from warmfork._machine import platform
    from warmfork._words.errors import UnsupportedPlatform

    try:
        platform.check()
    except UnsupportedPlatform:
        return False
    except OSError:  # out of files, say: that can't be told now, and whoever needs the tracker is told why not
        return True
    return True


def patch(module: ModuleType) -> None:
    """Put ours on the stdlib's one object, unless this process was started by spawn or loky and was given the tracker
    of its parent."""
    stdlib = module._resource_tracker
    if stdlib._fd is None and _stdlib_fd >= 0:
        stdlib._fd = _stdlib_fd
    if stdlib._fd is not None and stdlib._pid is None and role.kind != role.CHILD:
        return
    stdlib._send = send
    stdlib.getfd = getfd
    if hasattr(type(stdlib), "_stop"):
        stdlib._stop = stop
    module.ensure_running = ensure_running  # type: ignore[attr-defined]
    module.getfd = getfd  # type: ignore[attr-defined]  # which spawn calls, and not that of the object


def patch_util(module: Any) -> None:
    """Have multiprocessing's temporary folder (pymp-...) removed where the program is killed."""
    original = module.get_temp_dir
    if getattr(original, "warmfork", False):
        return

    def get_temp_dir() -> str:
        known = process.current_process()._config.get("tempdir")  # type: ignore[attr-defined]
        path: str = original()
        if known is None and role.kind != role.TEMPLATE:
            get_client().register("folder", path)
            # After its own finalizer, which removes the folder, and has -100.
            module.Finalize(None, get_client().tell, args=(messages.Unregister("folder", path),), exitpriority=-101)
        return path

    get_temp_dir.warmfork = True  # type: ignore[attr-defined]
    module.get_temp_dir = get_temp_dir


def get_stdlib() -> Any:
    """Give the stdlib's one ResourceTracker."""
    from multiprocessing import resource_tracker

    return resource_tracker._resource_tracker


def get_client() -> Client:
    """Give this process's client. Loaded at the first name: a template and most children never need it."""
    from warmfork._client.client import get_client

    return get_client()


def adopt_child(fd: int) -> None:
    """In a child: take the stdlib's tracker over from the parent, where that runs one beside ours: when its module runs,
    which most children never need."""
    global _stdlib_fd
    _stdlib_fd = fd
    module = sys.modules.get(MODULE)
    if module is not None and fd >= 0:
        module._resource_tracker._fd = fd


def get_stdlib_fd() -> int | None:
    """Give the fd of the stdlib's own tracker, where this process talks to one."""
    module = sys.modules.get(MODULE)
    if module is None:
        return _stdlib_fd if _stdlib_fd >= 0 else None
    fd: int | None = module._resource_tracker._fd
    return fd


def ensure_running() -> None:
    """Start our tracker, if none runs."""
    get_client().ensure_door()


def getfd() -> int:
    """Give the real pipe of the stdlib's tracker, for a child that is to be spawned with it."""
    stdlib = get_stdlib()
    get_client().tell(messages.StdlibTrackerRuns())
    type(stdlib).ensure_running(stdlib)
    if stdlib._fd is None:
        raise RuntimeError("multiprocessing's resource tracker did not start")
    fd: int = stdlib._fd
    return fd


def send(cmd: str, name: str, rtype: str) -> None:
    """Take a message that was meant for the stdlib's tracker."""
    size = len(os.fsencode(name))
    if size > LONGEST:
        raise ValueError(f"name too long: {size} bytes, and at most {LONGEST} are allowed")
    stdlib = get_stdlib()
    kind = type(stdlib)
    client = get_client()
    if cmd == "REGISTER":
        if stdlib._fd is not None and stdlib._pid is not None:
            kind.ensure_running(stdlib)  # it may have died, and then says so
        try:
            client.register(rtype, name)
        except Exception:
            if rtype == "semaphore":  # its maker registers it, and gives it up where that fails
                from _multiprocessing import sem_unlink

                sem_unlink(name)
            raise
    elif cmd == "UNREGISTER":
        client.tell(messages.Unregister(rtype, name))
        if stdlib._fd is not None:
            # A spawned child may have registered it there. A REGISTER first, so that its set has it to remove.
            kind._send(stdlib, "REGISTER", name, rtype)
            kind._send(stdlib, "UNREGISTER", name, rtype)


def stop(*arguments: object, **named: object) -> None:
    """Have the names removed that are left, as the tests of multiprocessing do at their end."""
    if sys.is_finalizing():
        return  # Python 3.12.10 and newer call it when their object goes, which may be after all modules are gone
    stdlib = get_stdlib()
    if stdlib._pid is not None:
        type(stdlib)._stop(stdlib, *arguments, **named)
        return
    client = get_client()
    if client.door is not None:
        from warmfork._client import launch

        answer = launch.ask(client.door, messages.Sweep(), 10.0)
        stdlib._exitcode = int(isinstance(answer, messages.NamesSwept) and answer.left > 0)
