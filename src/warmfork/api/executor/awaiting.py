"""asubmit(): a task that is awaited. Whoever is cancelled has the process ended first, and then hears of it."""

from __future__ import annotations

import asyncio

from warmfork.api.executor.errors import Full

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from warmfork.api.executor.executor import Executor
    from warmfork.api.executor.futures import TaskFuture
    from warmfork.api.executor.tasks import Options

RETRY = 0.005
"""Seconds between two looks at whether there is room again."""

PATIENCE = 2.0
"""Seconds that a cancelled task's process may take to end, until nobody waits for that any longer."""


async def run(
    executor: Executor, options: Options, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Submit a task and await it."""
    task, size = executor._make(options, (fn, args, kwargs), fn)
    while size >= 0:
        try:
            executor._take_on(task, size)
            break
        except Full:
            await asyncio.sleep(RETRY)
    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def wake(_task: TaskFuture) -> None:
        """In the executor's thread."""
        try:
            loop.call_soon_threadsafe(settle)
        except RuntimeError:
            return  # the loop is closed: nobody waits

    def settle() -> None:
        """In the loop."""
        if not ended.done():
            ended.set_result(None)

    task.add_done_callback(wake)
    try:
        await ended
    except asyncio.CancelledError:
        slot = task._slot
        if task.cancel() and slot is not None:
            await wait_for_end(slot, task)
        raise
    return task.result(0)


async def wait_for_end(slot: Any, task: TaskFuture) -> None:
    """Wait until a worker has let go of a task: it has taken it back, or is dead."""
    loop = asyncio.get_running_loop()
    until = loop.time() + PATIENCE
    while slot.tasks.get(task._number) is task and loop.time() < until:
        await asyncio.shield(asyncio.sleep(RETRY))
