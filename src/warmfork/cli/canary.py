"""The canary of `warmfork doctor`: a child that does what children do, with a deadline, and says what it has."""

from __future__ import annotations

import marshal
import os
import select
import sys
from time import perf_counter

from warmfork._child import reseeding
from warmfork._machine import memfds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LARGEST = 1 << 22


def send(settings: dict[str, Any]) -> dict[str, Any]:
    """Fork a canary. Gives what it says; {"hung": where} where it said nothing in time, {"died": status} where it died."""
    ours, theirs = os.pipe()
    stack = memfds.make_memory("stack")
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(ours)
            write(theirs, look(settings, stack))
            code = 0
        finally:
            os._exit(code)
    os.close(theirs)
    try:
        said = read(ours, settings["deadline"])
        if said is None:
            os.kill(pid, 9)
        _, status = os.waitpid(pid, 0)
        if said is None:
            return {"hung": os.pread(stack, 8000, 0).decode(errors="replace")}
        return marshal.loads(said) if said else {"died": os.waitstatus_to_exitcode(status)}
    finally:
        os.close(ours)
        os.close(stack)


def write(fd: int, value: Any) -> None:
    """Write a value, as marshal does, to its end."""
    data = marshal.dumps(value)
    while data:
        data = data[os.write(fd, data) :]


def read(fd: int, seconds: float) -> bytes | None:
    """Read to the end of a pipe. None where that takes longer."""
    until = perf_counter() + seconds
    found = b""
    while len(found) <= LARGEST:
        ready, _, _ = select.select([fd], [], [], max(0.0, until - perf_counter()))
        if not ready:
            return None
        part = os.read(fd, 1 << 16)
        if not part:
            return found
        found += part
    return None


def look(settings: dict[str, Any], stack: int) -> dict[str, Any]:
    """In the canary: what it has, what it can do, and what a named callable imports."""
    found: dict[str, Any] = {"threads": len(os.listdir("/proc/self/task")), "fds": os.listdir("/proc/self/fd")}
    import faulthandler

    faulthandler.dump_traceback_later(settings["deadline"] * 0.8, exit=False, file=stack)
    reseeding.reseed()
    found["drawn"] = draw(settings["own"])
    exercise()
    if settings["call"]:
        found["call"] = call(settings["call"])
    faulthandler.cancel_dump_traceback_later()
    return found


def draw(own: list[str]) -> dict[str, str]:
    """Draw from each source of random numbers that is loaded, and look at the counters of the user's modules."""
    import tempfile
    from itertools import count
    from random import random

    drawn = {"random": repr(random()), "tempfile": next(tempfile._get_candidate_names())}  # type: ignore[attr-defined]
    uuid = sys.modules.get("uuid")
    if uuid is not None:
        drawn["uuid.uuid1"] = str(uuid.uuid1())
    numpy = sys.modules.get("numpy")
    if numpy is not None and "numpy.random.mtrand" in sys.modules:
        drawn["numpy.random"] = repr(numpy.random.random())
    torch = sys.modules.get("torch")
    if torch is not None:
        drawn["torch"] = repr(torch.rand(1).item())
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in own:
            for attribute, value in list(getattr(module, "__dict__", {}).items()):
                if type(value) is count:
                    drawn[f"{name}.{attribute}"] = repr(value)
    return drawn


def exercise() -> None:
    """Do what children do and what hangs where a fork has broken something: threads, logging, memory, a product."""
    import gc
    import logging
    import threading

    thread = threading.Thread(target=os.getpid)
    thread.start()
    thread.join()
    logging.getLogger("warmfork").debug("here")
    gc.collect()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        square = numpy.ones((256, 256))
        square.dot(square)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.ones(256, 256).matmul(torch.ones(256, 256)).sum().item()


def call(name: str) -> dict[str, Any]:
    """Call what was named, and give what it imported that was not there."""
    module, _, function = name.partition(":")
    before = set(sys.modules)
    began = perf_counter()
    error = ""
    try:
        __import__(module)
        found: Any = sys.modules[module]
        for part in function.split("."):
            found = getattr(found, part)
        found()
    except BaseException as caught:
        error = f"{type(caught).__name__}: {caught}"
    return {"ms": (perf_counter() - began) * 1000, "modules": sorted(set(sys.modules) - before), "error": error}


def use(items: list[str]) -> tuple[int, int]:
    """In a child whose start is measured: import what it needs. Gives KiB of its own, and KiB that it shares."""
    for item in items:
        module, _, function = item.partition(":")
        had = module in sys.modules
        __import__(module)
        if function and not had:
            found: Any = sys.modules[module]
            for part in function.split("."):
                found = getattr(found, part)
            found()
    own = shared = 0
    with open("/proc/self/smaps_rollup") as file:
        for line in file:
            name, _, rest = line.partition(":")
            if name in ("Private_Clean", "Private_Dirty"):
                own += int(rest.split()[0])
            elif name in ("Shared_Clean", "Shared_Dirty"):
                shared += int(rest.split()[0])
    return own, shared
