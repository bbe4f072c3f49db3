"""Template: a warm process of your own, and children of it."""

from __future__ import annotations

import os
import sys
from itertools import count

from warmfork import startup
from warmfork._client.client import get_client
from warmfork._client.launch import get_own_interpreter, get_program_name
from warmfork._machine import fds, platform, state
from warmfork._words.errors import WarmforkError
from warmfork._words.spec import Spec
from warmfork.api.birthplace import Birthplace, get_sys_path
from warmfork.api.ending import end_children
from warmfork.api.freshness import Freshness, Refreshed, check_reload
from warmfork.api.main_module import check_guard, describe_main
from warmfork.api.options import DEFAULT, Default, check_timeout, read_options
from warmfork.api.runs import Runs
from warmfork.api.starts import ENTRY, Starts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, Self

    from warmfork._client.channel import Channel
    from warmfork._client.handle import Child
    from warmfork.api.options import Audit, Environment, HugePages, OnPreloadError, Orphans, Preload, Spares

MAIN_LOADER = "warmfork.mp.child.main_module:prepare_main"

_serials = count(1)


class Template(Starts, Refreshed, Runs):
    """A process that has imported what you need, and forks children of itself.

    >>> import warmfork
    >>> with warmfork.Template(preload=["json"]) as t:
    ...     t.start(sum, ([1, 2],)).result()
    3

    Args:
        preload: modules to import ("numpy"), and functions to call ("app.models:load"), in this order; "auto", or "auto"
            among them: also what this program's children have imported before.
        name: what `ps` shows; the program's own name by default. What is longer than 200 bytes is cut.
        on_preload_error: "raise" (PreloadError at the first start) or "warn" (logged, and the children do without).
        audit: what to do about threads and other things that a fork does not survive, where the preload left some:
            "warn" logs them, "refuse" raises AuditError, "off" does not look.
        spares: children forked ahead, so that a start need not wait for a fork: "auto" (the default) learns from your
            traffic (none for a program that starts one process), a number, or 0.
        huge_pages: "auto" (the default) has the template's heaps collapsed to huge pages where that pays, so that large
            ones are forked faster; True: all of them before the first child; False.
        start_timeout: seconds that preloading may take (120 where nothing is said); None waits for ever.
        orphans: what becomes of children that still run when this process dies, however it does: "kill" (SIGTERM, after a
            second SIGKILL; the default) or "keep".
        main: True: the template runs your script once, as `__mp_main__`, as a context's does. Then children have what
            the script sets up at its top, its functions travel by name, and the script needs its main guard. False (the
            default): the script is not run, and its functions travel by value, with the globals that they use.
        env: the environment that the template is born with, and preloads in (OMP_NUM_THREADS is read at an import);
            "minimal": PATH and language, since its children can read what it was born with. None: this program's.
        cwd: the folder in which it preloads; not together with `main`.
        python: another interpreter than this program's: warmfork must be on its sys.path.
        reload: "check": a start looks, at most once a second, whether a file that the template has loaded is another now,
            and has a fresh template then, beside the old one. "never": a change of a preloaded module is logged.

    What is not given is taken from WARMFORK_PRELOAD (comma-separated), WARMFORK_NAME, WARMFORK_ON_PRELOAD_ERROR,
    WARMFORK_AUDIT, WARMFORK_SPARES, WARMFORK_HUGE_PAGES, WARMFORK_START_TIMEOUT ("none": for ever) and
    WARMFORK_ORPHANS. WARMFORK_WITHOUT names techniques to do without, to find out whether one is to blame.

    The template is started by the first `start()` or by `wait_ready()`. stop(), which the end of a `with` block calls,
    ends the children that still run, then the template; so does the end of this program.
    """

    def __init__(
        self,
        preload: Preload | Default = DEFAULT,
        *,
        name: str | None = None,
        on_preload_error: OnPreloadError | None = None,
        audit: Audit | None = None,
        spares: Spares | None = None,
        huge_pages: HugePages | None = None,
        start_timeout: float | Default | None = DEFAULT,
        orphans: Orphans | None = None,
        main: bool = False,
        env: Environment = None,
        cwd: str | os.PathLike[str] | None = None,
        python: str | os.PathLike[str] | None = None,
        reload: Literal["never", "check"] = "never",
    ) -> None:
        platform.check()
        if main and cwd is not None:
            raise ValueError("main=True runs the script in its own folder: leave out cwd=")
        super().__init__()
        self._reload = check_reload(reload)
        self._options = read_options(preload, name, on_preload_error, audit, spares, huge_pages, start_timeout, orphans)
        self._birthplace = Birthplace(env, cwd, python)
        self.name: str = self._options.name or get_program_name()
        self.preload: tuple[str, ...] = self._options.preload
        self._main = describe_main() if main else ("", "")
        self._spec: Spec | None = None
        self._children: set[Child] = set()  # one that was asked how it ended takes itself off
        self._turn = 0
        self._stopped = False
        self._runs = False
        self._serial = next(_serials)
        self._names = count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Template {self.name} preload={list(self.preload)}>"

    @property
    def pid(self) -> int | None:
        """The template's pid, or None where none runs: nothing is started."""
        channel = self._peek_channel()
        return channel.pid if channel is not None else None

    @property
    def generation(self) -> int | None:
        """The template's serial number (2 where it died once and was brought up again), or None where none runs."""
        channel = self._peek_channel()
        return channel.generation if channel is not None else None

    def wait_ready(self, timeout: float | Default | None = DEFAULT) -> None:
        """Start the template, and wait until it has preloaded.

        Raises PreloadError, AuditError, or StartError where that takes longer than `timeout` seconds: None waits for
        ever; the `start_timeout` of this template, where it is not given.
        """
        self._get_channel(self._options.start_timeout if isinstance(timeout, Default) else check_timeout(timeout))

    def stop(self) -> None:
        """End the children that still run (SIGTERM, after a second SIGKILL, all at once) and the template. Waits until
        they have ended. (A context's stop_template() ends the template alone: its processes are the program's.)

        Raises PermissionError where a child has become another user, after everything else has ended.
        """
        if self._stopped:
            return
        self._stopped = True
        try:
            end_children(list(self._children))
        finally:
            self._children.clear()
            self._end_template()

    def _end_template(self) -> None:
        """Let the template go, and wait until it has ended."""
        if self._spec is None:
            return
        client = get_client()
        channel = client.channels.get(self._key())
        template = channel.dup_template() if channel is not None else -1
        client.retire(self._spec)
        if template >= 0:
            self._former.append(fds.Fd(template))
        self._wait_former()

    def _peek_channel(self) -> Channel | None:
        """Give the channel to the template, if it runs."""
        if self._spec is None:
            return None
        channel = get_client().channels.get(self._key())
        if channel is not None:
            channel.catch_up()
        return None if channel is None or channel.dead else channel

    def _get_channel(self, timeout: float | None) -> Channel:
        """Give a channel to the template, started if need be."""
        try:
            return get_client().get_live_channel(self._get_spec(), timeout)
        except WarmforkError as error:
            self._forget_spec()
            check_guard(error)
            raise

    def _forget_spec(self) -> None:
        """Where no template came of it, have the next try take sys.path, environment and all anew."""
        if self._spec is not None and get_client().channels.get(self._key()) is None:
            self._spec = None

    def _key(self) -> tuple[object, ...]:
        from warmfork._words.spec import identify

        return identify(self._get_spec())

    def _choose_loader(self) -> str:
        """Give what the template does before its preload list."""
        if self._main[0]:
            return MAIN_LOADER
        # What run() needs in a child is loaded where it is known to be used, or costs nothing beside the rest.
        return "warmfork.startup:" + (
            "prepare" if self.preload or self._runs or self._birthplace.folder else "watch_names"
        )

    def _get_spec(self) -> Spec:
        """Give the spec, made at the first need."""
        if self._stopped and self._spec is None:
            raise ValueError(f"{self!r} was stopped")
        if self._spec is None:
            self._freshness = Freshness()
            self._spec = self._make_spec(self._serial)
        return self._spec

    def _take_serial(self) -> int:
        """Give what makes another template of the same options."""
        return next(_serials)

    def _make_spec(self, serial: int) -> Spec:
        """Make a spec: it has the environment, sys.path and argv of this moment."""
        startup.watch_names()
        if self._main[0]:
            sys.modules.setdefault("__mp_main__", sys.modules["__main__"])  # what children's results say
        executable, flags = get_own_interpreter()
        options, place = self._options, self._birthplace
        return Spec(
            name=self.name,
            executable=place.python or executable,
            flags=flags,
            preload=self.preload,
            policies=(options.on_preload_error,) * len(self.preload),
            audit=options.audit,
            spares=options.spares,
            huge_pages=options.huge_pages,
            without=options.without,
            entry=ENTRY,
            loader=self._choose_loader(),
            loader_arguments=self._main if self._main[0] else () if place.folder is None else (place.folder,),
            sys_path=place.find_path() if place.python is not None else get_sys_path(),
            argv=tuple(map(str, sys.argv)),
            own_environment=int(place.environment is not None),
            environment=state.join_environment(place.environment or state.get_environment()),
            epoch=serial,
            wanted=(),
        )


Template.__module__ = "warmfork"
