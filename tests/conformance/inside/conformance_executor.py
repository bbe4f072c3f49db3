"""warmfork.Executor in the place of ProcessPoolExecutor: `concurrent.futures.process` has it under that name.

It is called as that one is, and has the private names that CPython's tests look at. What fails one future here breaks the
pool there: so BrokenProcessPool stands for what the one future raises.
"""

from __future__ import annotations

import os
import select
import signal
import time
from types import SimpleNamespace

import warmfork


class Process:
    """A worker, with what the tests call of multiprocessing.Process."""

    def __init__(self, pid: int) -> None:
        self._pidfd = os.pidfd_open(pid)

    def terminate(self) -> None:
        signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)

    def kill(self) -> None:
        signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def join(self, timeout: float | None = None) -> None:
        select.select([self._pidfd], [], [], timeout)

    def is_alive(self) -> bool:
        return not select.select([self._pidfd], [], [], 0)[0]

    def __del__(self) -> None:
        os.close(self._pidfd)


class ProcessPoolExecutor(warmfork.Executor):
    """Takes what the standard class takes."""

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: object = None,
        initializer: object = None,
        initargs: tuple[object, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
    ) -> None:
        super().__init__(
            max_workers,
            tasks_per_worker=max_tasks_per_child,
            initializer=initializer,
            initargs=initargs,
            cancel_running=False,
        )
        self._max_workers = self._settings[0]
        self._executor_manager_thread = self._core.runner
        self._call_queue = SimpleNamespace(join_thread=lambda: None)  # there is none

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As ours; but where all is cancelled, first one has begun. The standard one's submit() has waited for a process,
        and says of what it has put into its queue that it runs."""
        core = self._core
        while cancel_futures and core.queue and not any(slot.get_running() for slot in tuple(core.slots)):
            time.sleep(0.001)
        super().shutdown(wait, cancel_futures=cancel_futures)

    @property
    def _broken(self) -> object:
        return self._core.broken

    @property
    def _processes(self) -> dict[int, Process]:
        """The workers, those included that are about to be there: submit() does not wait for them."""
        core = self._core
        while (core.births.under_way or (core.queue and core.hungry)) and not core.broken:
            time.sleep(0.001)
        return {slot.pid: Process(slot.pid) for slot in tuple(core.slots) if not slot.leaving}


def replace(module: object) -> None:
    """Have `concurrent.futures.process` offer this one."""
    module.ProcessPoolExecutor = ProcessPoolExecutor
    module.BrokenProcessPool = (warmfork.WorkerDied, warmfork.ResultError)
