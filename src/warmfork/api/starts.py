"""What a template starts: one child, or many, each for a call of a function."""

from __future__ import annotations

import os
from functools import partial

from warmfork._client import feeding, starting
from warmfork._client.client import get_client
from warmfork._machine import fds
from warmfork._tasks import shared
from warmfork._words.buffers import Pickled, run
from warmfork._words.errors import WarmforkError
from warmfork.api import payload
from warmfork.api.arguments import check_arguments, check_call, check_list
from warmfork.api.birthplace import encode_environment, get_here, open_folder
from warmfork.api.by_value import warn_of_globals
from warmfork.api.ending import end_children
from warmfork.api.main_module import check_guard
from warmfork.api.options import check_name, check_orphans, flush_streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any, TypedDict, TypeVar, TypeVarTuple, Unpack, overload

    from warmfork._client.handle import Child
    from warmfork._words.spec import Spec
    from warmfork.api.birthplace import Birthplace
    from warmfork.api.options import Environment, Options, Orphans
    from warmfork.api.streams import Stream

    T = TypeVar("T")
    Ts = TypeVarTuple("Ts")

    class ManyOptions(TypedDict, total=False):
        """The options of start_many()."""

        name: str | None
        env: Environment
        cwd: str | os.PathLike[str] | None
        orphans: Orphans | None

    class StartOptions(ManyOptions, total=False):
        """The options of start()."""

        stdin: Stream
        stdout: Stream
        stderr: Stream


ENTRY = "warmfork._tasks.call:run_call"
LOOKS = 8


class Starts:
    """The part of a Template that starts children."""

    # What a Template has.
    _options: Options
    _birthplace: Birthplace
    _main: tuple[str, str]
    _children: set[Child]
    _turn: int
    _names: Iterator[int]
    _stopped: bool
    _refresh: Callable[[], None]
    _get_spec: Callable[[], Spec]
    _forget_spec: Callable[[], None]

    if TYPE_CHECKING:
        # What has no tuple for `args`, and what has keyword arguments, is beyond type checkers, and taken as it comes.
        @overload
        def start(
            self, fn: Callable[[*Ts], T], args: tuple[*Ts], kwargs: None = None, **options: Unpack[StartOptions]
        ) -> Child[T]: ...
        @overload
        def start(
            self, fn: Callable[[], T], args: tuple[()] = (), kwargs: None = None, **options: Unpack[StartOptions]
        ) -> Child[T]: ...
        @overload
        def start(
            self,
            fn: Callable[..., T],
            args: list[Any] | Iterator[Any],
            kwargs: None = None,
            **options: Unpack[StartOptions],
        ) -> Child[T]: ...
        @overload
        def start(
            self, fn: Callable[..., T], args: Iterable[Any], kwargs: Mapping[str, Any], **options: Unpack[StartOptions]
        ) -> Child[T]: ...
        @overload
        def start(
            self,
            fn: Callable[..., T],
            args: Iterable[Any] = (),
            *,
            kwargs: Mapping[str, Any],
            **options: Unpack[StartOptions],
        ) -> Child[T]: ...

    def start(
        self,
        fn: Callable[..., object],
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *surplus: object,
        name: str | None = None,
        env: Environment = None,
        cwd: str | os.PathLike[str] | None = None,
        orphans: Orphans | None = None,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
    ) -> Child:
        """Start a child that calls `fn(*args, **kwargs)`.

        The child has this program's state as it is now: environment, working directory, umask, stdout and stderr,
        limits and the rest. `env` replaces the environment, `cwd` the working directory. `stdin`, `stdout` and `stderr`
        are as subprocess.Popen takes them, and so are those attributes of the child where it is PIPE; without `stdin` it
        has /dev/null.
        `orphans` is what becomes of it when this process dies: "kill" or "keep", or None for the template's.

        Raises PreloadError, AuditError, StartError; what pickle raises, naming the part that can't be pickled; and
        OSError for a `cwd` that is no folder. In each case nothing is left running.
        """
        call = check_call(fn, args, kwargs, surplus)
        name = check_name(name)
        if stdin is None and stdout is None and stderr is None:
            return self._start_all(fn, [call], [name], env, cwd, orphans)[0]
        from warmfork.api.streams import Streams

        streams = Streams(stdin, stdout, stderr)
        try:
            child = self._start_all(fn, [call], [name], env, cwd, orphans, streams.theirs)[0]
            streams.let_go()
            child.stdin, child.stdout, child.stderr = streams.open_files()
        finally:
            streams.close()
        return child

    if TYPE_CHECKING:

        @overload
        def start_many(
            self, fn: Callable[[*Ts], T], arguments: Iterable[tuple[*Ts]], **options: Unpack[ManyOptions]
        ) -> list[Child[T]]: ...
        @overload
        def start_many(
            self, fn: Callable[..., T], arguments: Iterable[list[Any] | Iterator[Any]], **options: Unpack[ManyOptions]
        ) -> list[Child[T]]: ...

    def start_many(
        self,
        fn: Callable[..., object],
        arguments: Iterable[Iterable[Any]],
        *,
        name: str | None = None,
        env: Environment = None,
        cwd: str | os.PathLike[str] | None = None,
        orphans: Orphans | None = None,
    ) -> list[Child]:
        """Start a child for each item of `arguments`, which calls `fn(*item)`, in one round trip to the template.

        All of them are started, or none: `fn` does not run in any before all exist, up to 200 at a time, and where one
        can't be had, or can't be pickled, those that were begun are ended and what start() raises is raised. The rest
        is as for start(); `name` is that of all, with a number behind it.
        """
        calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
            (check_arguments(fn, item), {}) for item in check_list(arguments)
        ]
        name = check_name(name)
        names = [f"{name}-{number}" if name else None for number in range(1, len(calls) + 1)]
        return self._start_all(fn, calls, names, env, cwd, orphans)

    def _start_all(
        self,
        fn: Callable[..., object],
        calls: list[tuple[tuple[Any, ...], dict[str, Any]]],
        names: list[str | None],
        env: Environment,
        cwd: str | os.PathLike[str] | None,
        orphans: Orphans | None,
        streams: Sequence[int] = (-1, -1, -1),
    ) -> list[Child]:
        if self._stopped:
            raise ValueError(f"{self!r} was stopped")
        check_orphans(orphans)
        self._refresh()
        fds.fill_standard_streams()
        environment = encode_environment(env)
        folder = open_folder(cwd)
        try:
            here = get_here()
            kill = (orphans or self._options.orphans or "kill") == "kill"
            wanted = []
            for (args, kwargs), name in zip(calls, names, strict=True):
                title = name or check_name(f"{getattr(fn, '__name__', 'call')}-{next(self._names)}") or "call"
                order = feeding.StartRequest(ENTRY, title, kill, True, environment, folder, here)
                order.streams = streams[0], streams[1], streams[2]
                order.own_path = self._birthplace.python is not None
                wanted.append((order, partial(self._make_payload, (fn, args, kwargs))))
            flush_streams()
            if len(wanted) == 1:
                children = [starting.start(get_client(), self._get_spec(), *wanted[0], self._options.start_timeout)]
            else:
                from warmfork.api.many import start_many

                client = get_client()
                starts = [starting.PendingStart(client, *one) for one in wanted]
                children = start_many(client, self._get_spec(), starts, self._options.start_timeout)
        except WarmforkError as error:
            self._forget_spec()
            check_guard(error)
            raise
        finally:
            if folder >= 0:
                os.close(folder)
        self._keep(children)
        return children

    def _keep(self, children: list[Child]) -> None:
        """Remember children, to end them in stop(), and let go of those that are dead: looks at a few in turn, since to
        look at all would take a start 3 ms where 2,000 live."""
        known = tuple(self._children)
        for at in range(self._turn, self._turn + min(len(known), LOOKS)):
            child = known[at % len(known)]
            if not child.is_running():
                self._children.discard(child)
        self._turn += LOOKS
        for child in children:
            child._owners = self._children
        self._children.update(children)
        if self._stopped:  # by another thread, or a signal handler, while these were being started
            end_children(children)
            raise ValueError(f"{self!r} was stopped")

    def _make_payload(self, call: object) -> feeding.Payload:
        """Pickle a call."""
        dumps = self._pickle, self._pickle_by_value, bool(self._main[0])
        made, handles = shared.collect(lambda: payload.dump(call, *dumps))
        files, keep = [one.fileno() for one in handles], (call, handles)
        return feeding.Payload(made.parts, files, keep, made.buffers, self._options.out_of_band)

    def _pickle(self, value: object) -> Pickled:
        from pickle import Pickler

        return run(Pickler, value, self._options.out_of_band)

    def _pickle_by_value(self, value: object) -> Pickled:
        from warmfork._tasks.by_value import make_pickler

        pickled = run(make_pickler(bool(self._main[0])), value, self._options.out_of_band)
        warn_of_globals(value, pickled)
        return pickled
