"""What the processes of a cell do: children that wait for orders, and whoever starts and waits for them."""

from __future__ import annotations

import os
import sys
import threading
import time
from multiprocessing import util
from typing import Any

from tests.faults.stops import Trap, obey, read_order, say, stop


def act(name: str, trap: Trap, lock: Any) -> None:
    """Be here, and do as ordered."""
    util.Finalize(None, stop, args=("exit",), exitpriority=1)
    with lock:  # it is there; and whoever is killed from here on does not hold it
        pass
    say("running", name=name)
    obey(read_order(f"order-{name}"))


def act_as_parent(name: str, trap: Trap, lock: Any, context: Any) -> None:
    """Be here, start a child of one's own, and do as ordered."""
    say("running", name=name)
    starter = Starter(context, lock)
    while (order := read_order(f"order-{name}")) == "start":
        starter.start("grandchild")
    obey(order)


def do_nothing() -> None:
    """The next start."""


class Starter:
    """Starts processes and waits for them, each in a thread of its own, and says what came of it."""

    def __init__(self, context: Any, lock: Any) -> None:
        self.context = context
        self.lock = lock
        self.threads: list[threading.Thread] = []
        self.closing = threading.Lock()
        self.at_end = False

    def start(self, name: str, daemon: bool = False, parent: bool = False) -> None:
        """Start a process that acts."""
        given = (name, Trap(), self.lock)
        if parent:
            process = self.context.Process(target=act_as_parent, args=(*given, self.context), name=name, daemon=daemon)
        else:
            process = self.context.Process(target=act, args=given, name=name, daemon=daemon)
        self._run(process)

    def start_next(self) -> None:
        """Start a process that does nothing."""
        self._run(self.context.Process(target=do_nothing, name="next"))

    def _run(self, process: Any) -> None:
        # A daemon thread, so that the program's end is not held up by it but by multiprocessing itself.
        thread = threading.Thread(target=self._start_and_wait, args=(process,), daemon=True)
        self.threads.append(thread)
        thread.start()

    def _start_and_wait(self, process: Any) -> None:
        try:
            process.start()
        except BaseException as error:
            say("refused", name=process.name, error=f"{type(error).__name__}: {error}"[:500])
            return
        say("started", name=process.name, child=process.pid)
        process.join()
        say("ended", name=process.name, child=process.pid, code=process.exitcode, at=time.monotonic())
        with self.closing:
            if not self.at_end:
                process.close()

    def leave_open(self) -> None:
        """Close no process from now on: multiprocessing's own look at them, when a program ends, bears none that is
        closed meanwhile by another thread."""
        with self.closing:
            self.at_end = True

    def finish(self) -> None:
        """Wait for those that are done, so that nothing of theirs is open."""
        for thread in self.threads:
            thread.join(5)
        self.threads.clear()


def get_context(engine: str, spares: int) -> Any:
    """Give the context of the engine that is to be tested."""
    if engine == "stdlib":
        import multiprocessing

        return multiprocessing.get_context("forkserver")
    import warmfork

    return warmfork.get_context(spares=spares)


def start_helpers(engine: str, context: Any) -> dict[str, int]:
    """Start template and tracker, and give their pids."""
    if engine == "stdlib":
        from multiprocessing import forkserver, resource_tracker

        forkserver.ensure_running()
        resource_tracker.ensure_running()
        return {
            "template": forkserver._forkserver._forkserver_pid,
            "tracker": resource_tracker._resource_tracker._pid,
        }
    from warmfork._client.client import get_client

    context.wait_ready()
    return {"template": context.template_pid, "tracker": get_client().tree.tracker}


def count_fds() -> int:
    """Count the open fds of this process, but for those by which a successor of the tracker learns of dead templates: two
    for each, which are kept."""
    client = sys.modules.get("warmfork._client.client")
    tree = client._client.tree if client is not None and client._client is not None else None
    return len(os.listdir("/proc/self/fd")) - 2 * len(tree.left if tree is not None else ())


def collect() -> None:
    """Let go of what is let go of at the next occasion only."""
    import gc

    gc.collect()
    client = sys.modules.get("warmfork._client.client")
    if client is not None and client._client is not None:
        client._client.tidy()
