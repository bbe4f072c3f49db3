"""A session: one child, many pieces of code, one after the other. Variables live on, as at a prompt."""

from __future__ import annotations

import sys
from _thread import RLock

from warmfork._tasks import frames as words
from warmfork._words.errors import WarmforkError
from warmfork.api import running
from warmfork.api.limits import NONE
from warmfork.api.running import PollLoop, Task, attach, complete, interrupt, judge, make_completed
from warmfork.api.streams import PIPE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self, Unpack

    from warmfork.api.arunning import LoopPoller
    from warmfork.api.awaiting import ChannelReader
    from warmfork.api.completed import Completed
    from warmfork.api.running import SnippetOptions
    from warmfork.api.runs import Runs
    from warmfork.api.watching import Watched

SIGINT = 2
ENDED = "this session's child has ended"
BROKEN_OFF = "this session's child was ended, since its last code was broken off"


class SessionEnded(WarmforkError, ValueError):
    """The session's child is dead, or was never started. `reset()` gives it another."""


class Session:
    """One child that runs code as it comes. Made by Template.session().

    >>> with template.session() as s:  # doctest: +SKIP
    ...     s.run("x = 20")
    ...     s.run("x + 1").result
    21

    `run` and `reset` wait; `arun` and `areset` are awaited, after `async with`. A session is either the one or the other.
    """

    def __init__(self, template: Runs, options: Any) -> None:
        self._template = template
        self._options = running.fill(options, {**running.CHILD, "text": True}, "session()")
        self._watched: Watched | None = None
        self._loop: PollLoop | LoopPoller | None = None
        self._reader: ChannelReader | None = None
        self._name = ""
        self._number = 0
        self._lock: Any = RLock()
        self._runs = False
        self._gone = ""  # why a session that was begun has no child

    def __repr__(self) -> str:
        return f"<Session {self._name or 'not started'}>"

    @property
    def pid(self) -> int:
        """The child's pid. Raises SessionEnded where there is none."""
        return self._get_watched().child.pid

    def is_alive(self) -> bool:
        """Can it run another piece of code?"""
        return self._watched is not None and self._watched.child.is_running()

    # -- waiting

    def __enter__(self) -> Self:
        self._open(PollLoop())
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, code: str | bytes, **options: Unpack[SnippetOptions]) -> Completed[Any]:
        """Run code, wait until it is done, and say what came of it: its last expression's value is the result.

        Options, of this piece of code alone: `timeout`, `memory_limit`, `cpu_limit`, `output_limit`, `on_output`, `check`.
        Raises LimitExceeded, and then the session is over; with check=True RunError; SessionEnded where it is over already.
        """
        with self._lock:
            loop = self._loop
            if not isinstance(loop, PollLoop):
                not_so = "this session was not begun by `with`: use arun() after `async with`, or reset()"
                raise SessionEnded(f"{self._gone}; reset() starts another" if self._gone else not_so)
            watched = self._begin(code, options)
            try:
                loop.drive(watched)
            except KeyboardInterrupt:
                interrupt(watched, loop)
                if not watched.over:
                    self._end(BROKEN_OFF)
                raise
            except BaseException:
                self._end(BROKEN_OFF)
                raise
            finally:
                self._runs = False
            return self._finish(watched, options)

    def interrupt(self) -> None:
        """Interrupt the code that runs now, from another thread or task: KeyboardInterrupt is raised in it, and the session
        lives on. Nothing where no code runs."""
        watched = self._watched
        if self._runs and watched is not None and not watched.dead:
            watched.child.send_signal(SIGINT)

    def reset(self) -> None:
        """Have a fresh child: variables are gone, and so is whatever ran."""
        with self._lock:
            self._end()
            self._open(PollLoop())

    def close(self) -> None:
        """End the child, and whatever it has started."""
        with self._lock:
            self._end()

    # -- awaiting

    async def __aenter__(self) -> Self:
        await self._aopen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._end()

    async def arun(self, code: str | bytes, **options: Unpack[SnippetOptions]) -> Completed[Any]:
        """As run(), awaited. Where whoever awaits is cancelled, the session is over."""
        loop, reader = self._loop, self._reader
        if reader is None or loop is None or isinstance(loop, PollLoop):
            not_so = "this session was not begun by `async with`: use run() after `with`, or areset()"
            raise SessionEnded(f"{self._gone}; areset() starts another" if self._gone else not_so)
        if self._runs:
            raise RuntimeError("another piece of code runs in this session: await that first, or interrupt() it")
        watched = self._begin(code, options)
        try:
            await loop.wait(watched)
            if watched.dead:
                from warmfork.api.arunning import settle

                await settle(watched.child, reader)
        except BaseException:
            self._end(BROKEN_OFF)
            raise
        finally:
            self._runs = False
        return self._finish(watched, options)

    async def areset(self) -> None:
        """As reset(), awaited."""
        self._end()
        await self._aopen()

    async def _aopen(self) -> None:
        """Start the child."""
        import asyncio

        from warmfork.api.arunning import LoopPoller

        task = self._make_task()
        try:
            child, self._reader = await self._template._start_task_soon(task)
        except BaseException:
            task.close()
            raise
        self._loop = LoopPoller(asyncio.get_running_loop())
        self._watched = self._loop.watched = attach(task, child, self._loop)
        self._name = task.name

    # -- both

    def _make_task(self) -> Task:
        """Make what the child is started with."""
        options = {**running.RUN, **self._options, "stdout": PIPE, "stderr": PIPE}
        return Task(None, (), None, options, is_session=True)

    def _open(self, loop: PollLoop) -> None:
        """Start the child."""
        if self._watched is not None:
            raise RuntimeError("this session has begun already")
        task = self._make_task()
        try:
            child = self._template._start_task(task)
        except BaseException:
            task.close()
            raise
        self._loop = loop
        self._watched = attach(task, child, loop)
        self._name = task.name

    def _get_watched(self) -> Watched:
        """Give what is watched. Raises SessionEnded."""
        if self._watched is None:
            raise SessionEnded(f"{self._gone or 'this session has no child'}; reset() starts another")
        return self._watched

    def _begin(self, code: str | bytes, given: Any) -> Watched:
        """Send code to the child."""
        options = running.fill(given, running.SNIPPET, "run()") if given else running.SNIPPET
        if not isinstance(code, (str, bytes)):
            raise TypeError(f"a session runs code, as str or bytes, not {code!r}")
        watched = self._get_watched()
        if watched.dead:
            raise SessionEnded(f"{ENDED}: {watched.child.outcome}; reset() starts another")
        watched.limits = running.read_limits(options) if given else NONE
        watched.on_output = options["on_output"]
        for output in watched.kept:
            output.clear()
        self._number += 1
        watched.over, watched.reply, watched.wanted = False, None, self._number
        watched.watch.begin(watched.limits)
        self._runs = True
        watched.send(words.make_command(self._number, code, f"<snippet-{self._number}>"))
        return watched

    def _finish(self, watched: Watched, options: Any) -> Completed[Any]:
        """Give what came of it."""
        name = f"snippet {self._number} of {self._name}"
        if not watched.dead:
            completed = make_completed(watched, None, watched.ended - watched.watch.began)
            return judge(watched, completed, name, bool(options.get("check")))
        completed = complete(watched, watched.watch.began)
        self._end(f"{ENDED}: {completed.outcome}")
        return judge(watched, completed, name, bool(options.get("check")))

    def _end(self, why: str = "") -> None:
        """End the child. `why`: what is said of it to those who still have code for it."""
        self._gone = why
        watched, self._watched = self._watched, None
        self._loop = self._reader = None
        if watched is not None:
            watched.finish()

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # At the interpreter's end the names of our modules may be gone: there the child ends with its program.
        if getattr(self, "_watched", None) is not None and not is_finalizing():
            self._end()
