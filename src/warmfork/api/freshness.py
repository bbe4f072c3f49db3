"""Whether what a template has loaded is still what is in the files."""

from __future__ import annotations

import os
import sys
from _thread import RLock
from time import monotonic, time_ns

from warmfork._machine import fds
from warmfork._words.errors import WarmforkError
from warmfork._words.times import DEFAULT, Default
from warmfork.api.ending import GRACE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from warmfork._words.spec import Spec
    from warmfork.api.options import Options

RELOAD = ("never", "check")

PAUSE = 1.0
"""Seconds between two looks."""

Stamp = tuple[int, int, int]

GONE: Stamp = (0, 0, 0)
"""Of a file that is not there: an editor may be about to put another in its place."""

SHOWN = 3


def check_reload(value: object) -> str:
    """Check the option. Raises ValueError."""
    if value not in RELOAD:
        raise ValueError(f"reload is one of {', '.join(map(repr, RELOAD))}, not {value!r}")
    return str(value)


def stamp(path: str) -> Stamp:
    """Give what tells one version of a file from another: time, size, inode (1.5 us)."""
    try:
        info = os.stat(path)
    except OSError:
        return GONE
    return info.st_mtime_ns, info.st_size, info.st_ino


def list_loaded(born: int) -> dict[str, Stamp]:
    """In a child: list the files of what its template has loaded, but for Python's own and ours. A file that was written
    after the template had begun (`born`, ns) may have been read before that: it counts as changed."""
    found = {}
    for name, module in list(sys.modules.items()):
        top = name.partition(".")[0]
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and top != "warmfork" and top not in sys.stdlib_module_names:
            seen = stamp(path)
            found[path] = GONE if born <= seen[0] <= time_ns() else seen
    return found


def list_named(preload: Iterable[str], born: int) -> dict[str, Stamp]:
    """List the files of the modules that a preload list names, as far as this program can tell: those it has loaded, or
    that lie on sys.path."""
    found = {}
    for item in preload:
        name = item.partition(":")[0]
        if name.partition(".")[0] in sys.stdlib_module_names:
            continue
        path = getattr(sys.modules.get(name), "__file__", None)
        inside = name.replace(".", "/")
        guesses = [path] if path else [
            f"{folder}/{inside}{ending}" for folder in sys.path for ending in (".py", "/__init__.py")
        ]  # fmt: skip
        path = next((guess for guess in guesses if os.path.isfile(guess)), None)
        if path is not None:
            seen = stamp(path)
            found[path] = GONE if born <= seen[0] <= time_ns() else seen
    return found


class Freshness:
    """The files of one template, and when they were last looked at."""

    def __init__(self) -> None:
        self.files: Mapping[str, Stamp] | None = None
        self.next_look = monotonic() + PAUSE
        self.born = time_ns()
        self.told: Mapping[str, Stamp] = {}  # changes that were logged, or tried in vain

    def is_due(self) -> bool:
        """Is it time to look?"""
        return monotonic() >= self.next_look

    def find_changes(self, list_files: Callable[[], Mapping[str, Stamp]]) -> dict[str, Stamp]:
        """Give the files that have changed, each change once."""
        self.next_look = float("inf")  # to list them, a child is started, which looks as well
        try:
            self.files = list_files() if self.files is None else self.files
        finally:
            self.next_look = monotonic() + PAUSE
        changed = {path: now for path, then in self.files.items() if (now := stamp(path)) != then}
        if changed == self.told:
            return {}
        self.told = changed
        return changed


def describe(changed: Iterable[str]) -> str:
    """Give the names of files for the log."""
    names = sorted(changed)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


class Refreshed:
    """The part of a Template that is replaced by a fresh one: when it is told to, or when files have changed."""

    # What a Template has.
    _options: Options
    _reload: str
    _serial: int
    _spec: Spec | None
    _stopped: bool
    preload: tuple[str, ...]
    start: Callable[..., Any]
    _make_spec: Callable[[int], Spec]
    _take_serial: Callable[[], int]

    def __init__(self) -> None:
        self._freshness = Freshness()
        self._former: list[fds.Fd] = []  # pidfds of templates that were replaced
        self._turns = RLock()

    def restart(self, timeout: float | Default | None = DEFAULT) -> None:
        """Have a fresh template in place of the one that runs, which has this program's environment and sys.path as they are
        now, and reads all files anew. Waits until it has preloaded; children of the old one run on.

        Raises what wait_ready() raises, and ValueError where this was stopped: the old template then serves on.
        """
        from warmfork._client.client import get_client
        from warmfork.api.options import check_timeout

        self._check_not_stopped()
        limit = self._options.start_timeout if isinstance(timeout, Default) else check_timeout(timeout)
        client = get_client()
        with self._turns:
            serial, freshness = self._take_serial(), Freshness()
            spec = self._make_spec(serial)
            client.get_live_channel(spec, limit)
            old, self._spec, self._serial, self._freshness = self._spec, spec, serial, freshness
        try:
            self._check_not_stopped()  # by another thread meanwhile
        except ValueError:
            client.retire(spec)
            raise
        if old is not None:
            self._let_go(old)

    def _check_not_stopped(self) -> None:
        """Raise ValueError where it was stopped."""
        if self._stopped:
            raise ValueError(f"{self!r} was stopped")

    def _let_go(self, old: Spec) -> None:
        """Let go of a template that was replaced: it ends when its last child has."""
        from warmfork._client.client import get_client
        from warmfork._words.spec import identify

        channel = get_client().channels.get(identify(old))
        self._former = [pidfd for pidfd in self._former if not fds.wait_readable(pidfd.fileno(), 0)]
        if channel is not None:
            pidfd = channel.dup_template()
            if pidfd >= 0:
                self._former.append(fds.Fd(pidfd))
        get_client().retire(old)

    def _wait_former(self) -> None:
        """Wait until the templates that this has let go of have ended."""
        former, self._former = self._former, []
        for pidfd in former:
            fds.wait_readable(pidfd.fileno(), GRACE)
            pidfd.close()

    def _refresh(self) -> None:
        """At a start: see whether files have changed, at most once a second. Never raises for what a reload comes to."""
        if self._spec is None or not self._freshness.is_due():
            return
        freshness = self._freshness
        try:
            changed = freshness.find_changes(self._list_files)
            if not changed:
                return
            if self._reload == "never":
                log("%s changed, and the template has it as it was: restart(), or reload='check'", describe(changed))
                return
            self.restart()
        except WarmforkError as error:
            # Its text: a record that is kept would keep its traceback, and with that channels and children.
            log("%s changed, but the old template serves on: %s", describe(freshness.told) or "something", str(error))

    def _list_files(self) -> Mapping[str, Stamp]:
        """List the files that matter."""
        born = self._freshness.born
        if self._reload == "never":
            return list_named(self.preload, born)
        child = self.start(list_loaded, (born,), name="files")
        files: dict[str, Stamp] = child.result()
        return files


def log(text: str, *values: object) -> None:
    """Log a warning."""
    from logging import getLogger

    getLogger("warmfork").warning(text, *values)
