"""What a template runs: functions and code, each in a fresh child, and sessions."""

from __future__ import annotations

import os

from warmfork._words.errors import WarmforkError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any, TypeVar, TypeVarTuple, Unpack, overload

    from warmfork._client.feeding import StartRequest
    from warmfork._client.handle import Child
    from warmfork._words.spec import Spec
    from warmfork.api.awaiting import ChannelReader
    from warmfork.api.birthplace import Birthplace
    from warmfork.api.completed import Completed
    from warmfork.api.freshness import Freshness
    from warmfork.api.options import Options
    from warmfork.api.running import ChildOptions, RunOptions, Task
    from warmfork.api.session import Session

    T = TypeVar("T")
    Ts = TypeVarTuple("Ts")


class Runs:
    """The part of a Template that runs things to their end. Options are those of RunOptions; docs/run.md tells of each."""

    if TYPE_CHECKING:  # as for start()

        @overload
        def run(
            self, what: Callable[[*Ts], T], args: tuple[*Ts], kwargs: None = None, **options: Unpack[RunOptions]
        ) -> Completed[T]: ...
        @overload
        def run(
            self, what: Callable[[], T], args: tuple[()] = (), kwargs: None = None, **options: Unpack[RunOptions]
        ) -> Completed[T]: ...
        @overload
        def run(
            self,
            what: Callable[..., T],
            args: list[Any] | Iterator[Any],
            kwargs: None = None,
            **options: Unpack[RunOptions],
        ) -> Completed[T]: ...
        @overload
        def run(
            self, what: Callable[..., T], args: Iterable[Any], kwargs: Mapping[str, Any], **options: Unpack[RunOptions]
        ) -> Completed[T]: ...
        @overload
        def run(
            self,
            what: Callable[..., T],
            args: Iterable[Any] = (),
            *,
            kwargs: Mapping[str, Any],
            **options: Unpack[RunOptions],
        ) -> Completed[T]: ...
        @overload
        def run(self, what: str | bytes, **options: Unpack[RunOptions]) -> Completed[Any]: ...

    def run(
        self,
        what: Callable[..., Any] | str | bytes,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[RunOptions],
    ) -> Completed[Any]:
        """Run a function, or code as `python -c` would have it, in a fresh child; wait for its end, and say what came of it.

        Options, as subprocess.run() has them: `input`, `stdin`, `stdout`, `stderr`, `capture_output`, `text`, `env` (or
        "minimal"), `cwd`, `timeout`, `check`. And `name`, `memory_limit`, `cpu_limit`, `output_limit`, `on_output`,
        `rlimits`, `trust`.

        Raises LimitExceeded (where it ran out of time TimeLimitExceeded, which is a TimeoutError), with the output so far;
        with check=True RunError; and what start() raises. What the code itself raises is in `Completed.error`.
        """
        from warmfork.api import running

        return running.run(self._start_task, self._make_task(what, args, kwargs, options))

    if TYPE_CHECKING:

        @overload
        async def arun(
            self, what: Callable[[*Ts], T], args: tuple[*Ts], kwargs: None = None, **options: Unpack[RunOptions]
        ) -> Completed[T]: ...
        @overload
        async def arun(
            self, what: Callable[[], T], args: tuple[()] = (), kwargs: None = None, **options: Unpack[RunOptions]
        ) -> Completed[T]: ...
        @overload
        async def arun(
            self,
            what: Callable[..., T],
            args: list[Any] | Iterator[Any],
            kwargs: None = None,
            **options: Unpack[RunOptions],
        ) -> Completed[T]: ...
        @overload
        async def arun(
            self, what: Callable[..., T], args: Iterable[Any], kwargs: Mapping[str, Any], **options: Unpack[RunOptions]
        ) -> Completed[T]: ...
        @overload
        async def arun(
            self,
            what: Callable[..., T],
            args: Iterable[Any] = (),
            *,
            kwargs: Mapping[str, Any],
            **options: Unpack[RunOptions],
        ) -> Completed[T]: ...
        @overload
        async def arun(self, what: str | bytes, **options: Unpack[RunOptions]) -> Completed[Any]: ...

    async def arun(
        self,
        what: Callable[..., Any] | str | bytes,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[RunOptions],
    ) -> Completed[Any]:
        """As run(), awaited. Where whoever awaits is cancelled, the child is ended first, with all that it had started."""
        from warmfork.api import arunning

        return await arunning.arun(lambda: self._make_task(what, args, kwargs, options), self._start_task_soon)

    def session(self, **options: Unpack[ChildOptions]) -> Session:
        """Give a session: one child that runs one piece of code after the other. `with` or `async with` it.

        Options: `name`, `env` (or "minimal"), `cwd`, `rlimits`, `text` (True), `trust`.
        """
        from warmfork.api.session import Session

        return Session(self, options)

    def _make_task(
        self, what: Callable[..., Any] | str | bytes | None, args: Iterable[Any], kwargs: Any, options: Any
    ) -> Task:
        """Check what is to be run, and how."""
        from warmfork.api import running

        return running.Task(what, args, kwargs, running.fill(options, running.RUN, "run()"))

    # What a Template has.
    _runs: bool
    _stopped: bool
    _options: Options
    _birthplace: Birthplace
    _get_spec: Callable[[], Spec]
    _forget_spec: Callable[[], None]
    _keep: Callable[[list[Child]], None]
    _refresh: Callable[[], None]
    _reload: str
    _freshness: Freshness

    def _start_task(self, task: Task) -> Child:
        """Start the child of run() or of a session. Raises as start() does."""
        from warmfork._client import starting
        from warmfork._client.client import get_client

        self._refresh()
        order, timeout = self._order(task), self._options.start_timeout
        try:
            child = starting.start(get_client(), self._get_spec(), order, task.make_payload, timeout)
        except WarmforkError:
            self._forget_spec()
            raise
        finally:
            release(order)
        self._keep([child])
        return child

    async def _start_task_soon(self, task: Task) -> tuple[Child, ChannelReader]:
        """As above, in an event loop, which does not wait."""
        from warmfork._client.client import get_client
        from warmfork.api import awaiting

        if self._reload == "check" and self._freshness.is_due():
            from asyncio import to_thread

            await to_thread(self._refresh)  # a fresh template may take long to preload, and the loop must not
        order, timeout = self._order(task), self._options.start_timeout
        try:
            child, reader = await awaiting.start(get_client(), self._get_spec(), order, task.make_payload, timeout)
        except WarmforkError:
            self._forget_spec()
            raise
        finally:
            release(order)
        self._keep([child])
        return child, reader

    def _order(self, task: Task) -> StartRequest:
        """Give the request for a task's child. Raises TypeError, ValueError or OSError for a bad `env` or `cwd`."""
        from warmfork._client.feeding import StartRequest
        from warmfork.api.birthplace import encode_environment, get_here, open_folder
        from warmfork.api.options import flush_streams
        from warmfork.api.running import ENTRY

        if self._stopped:
            raise ValueError(f"{self!r} was stopped")
        self._runs = True
        flush_streams()
        environment, folder = encode_environment(task.options["env"]), open_folder(task.options["cwd"])
        kill = (self._options.orphans or "kill") == "kill"
        order = StartRequest(ENTRY, task.name, kill, False, environment, folder, get_here())
        order.streams = task.streams.theirs[0], task.streams.theirs[1], task.streams.theirs[2]
        order.own_path = self._birthplace.python is not None
        return order


def release(order: StartRequest) -> None:
    """Close what was opened for a request."""
    if order.cwd >= 0:
        os.close(order.cwd)
