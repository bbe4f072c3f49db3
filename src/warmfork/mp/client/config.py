"""The template that a multiprocessing context uses: its options, its preload list, its spec.

One for each context, and one for the installed "forkserver". A child's contexts get those of its parent, spec and all,
so that nested children come from the same template (row 37).
"""

from __future__ import annotations

import os
import sys
from multiprocessing import process

from warmfork._client.channel import Channel
from warmfork._client.client import get_client
from warmfork._client.launch import get_program_name
from warmfork._client.spawn import get_flags
from warmfork._machine import fds, platform, state
from warmfork._words.errors import AuditError, PreloadError, StartError
from warmfork._words.spec import Spec, identify
from warmfork.api.options import check_policies, check_preload, flush_streams, get_executable
from warmfork.mp.child.main_module import describe_main
from warmfork.mp.shared import names as resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

LOADER = "warmfork.mp.child.bootstrap:prepare_template"
ENTRY = "warmfork.mp.child.bootstrap:run_process"
STOP_TIMEOUT = 5.0

WANTED = (
    "multiprocessing.synchronize", "multiprocessing.connection", "multiprocessing.queues", "multiprocessing.pool",
    "multiprocessing.heap", "multiprocessing.sharedctypes", "multiprocessing.shared_memory",
    "multiprocessing.managers", "concurrent.futures.process",
)  # fmt: skip
"""What a process object may refer to, if its program has loaded it: better loaded once than by each child (5 to 20 ms)."""


class ServerPreloadError(PreloadError, EOFError):
    """A preload failed that was asked for with on_error="fail": programs of multiprocessing catch EOFError then."""

    def __init__(self, module: str, cause: str, traceback: str = "") -> None:
        super().__init__(module, cause, traceback)
        self.add_note("Forkserver process may have crashed during module preloading. Check stderr.")


class Prepared:
    """Options and preload list of one context's template."""

    def __init__(
        self,
        preload: tuple[str, ...],
        name: str | None,
        on_preload_error: str,
        audit: str,
        techniques: tuple[int, str, tuple[str, ...]],
        start_timeout: float | None,
        orphans: str | None,
        installed: bool = False,
    ) -> None:
        self.preload = preload
        self.name = name
        self.on_preload_error = on_preload_error
        self.audit = audit
        self.techniques = techniques  # as options.read_techniques() gives them
        self.start_timeout = start_timeout
        self.orphans = orphans  # None: daemons are ended, others kept
        self.fell_back = False
        self.installed = installed
        self.asked: tuple[str, ...] = ()  # by set_forkserver_preload()
        self.asked_policy = "ignore"
        self.epoch = 0
        self.main_is_unsafe = False
        self.spec: Spec | None = None

    def describe(self) -> tuple[Any, ...]:
        """Give what a child needs to have the same, as values that marshal can write."""
        return (
            self.preload,
            self.name,
            self.on_preload_error,
            self.audit,
            self.techniques,
            self.start_timeout,
            self.orphans,
            self.installed,
            self.asked,
            self.asked_policy,
            self.epoch,
            self.main_is_unsafe,
        )

    @classmethod
    def from_description(cls, description: tuple[Any, ...], spec: Spec | None) -> Prepared:
        """Make one from what describe() gave, or from the first eight of it; in a child, with the spec of its own
        template."""
        made = cls(*description[:8])
        if description[8:]:
            made.asked, made.asked_policy, made.epoch, made.main_is_unsafe = description[8:]
        made.spec = spec
        return made

    def set_preload(self, names: list[str], policy: str) -> None:
        """Preload these as well. A template that runs already is replaced at the next start (row 19)."""
        asked = tuple(name for name in names if name != "__main__")
        if (asked, policy) != (self.asked, self.asked_policy):
            self.asked, self.asked_policy = asked, policy
            self.renew()

    def renew(self) -> None:
        """Have the next start use a fresh spec, and let go of the template of the old one."""
        old, self.spec = self.spec, None
        if old is not None:
            get_client().retire(old)

    def get_spec(self) -> Spec:
        """Give the spec, made at the first need: it has the environment, sys.path and argv of that moment."""
        if self.spec is None:
            kind, value = ("", "") if self.main_is_unsafe else describe_main()
            self.spec = Spec(
                name=self.name or get_program_name(),
                executable=get_executable(),
                flags=get_flags(),
                preload=self.preload + self.asked,
                policies=(self.on_preload_error,) * len(self.preload) + (self.asked_policy,) * len(self.asked),
                audit=self.audit,
                spares=self.techniques[0],
                huge_pages=self.techniques[1],
                without=self.techniques[2],
                entry=ENTRY,
                loader=LOADER,
                loader_arguments=(kind, value, "installed" if self.installed else ""),
                sys_path=tuple(get_sys_path()),
                argv=tuple(map(str, sys.argv)),
                own_environment=0,
                environment=state.join_environment(state.get_environment()),
                epoch=self.epoch,
                wanted=tuple(name for name in WANTED if name in sys.modules),
            )
        return self.spec

    def begin(self) -> None:
        """Have the template started, and don't wait for it: what this process has to load meanwhile costs nothing."""
        if self.spec is None and not getattr(process.current_process(), "_inheriting", False):
            flush_streams()  # what the program printed so far comes before what the preload prints
            try:
                get_client().begin(self.get_spec())
            except StartError:
                self.spec = None
                raise

    def get_channel(self, live: bool = False) -> Channel:
        """Give a channel to the template, started if need be; `live`: one that is not known to be dead at this moment.
        Raises PreloadError, AuditError, StartError."""
        client = get_client()
        try:
            if live:
                return client.get_live_channel(self.get_spec(), self.start_timeout)
            return client.get_channel(self.get_spec(), self.start_timeout)
        except (AuditError, StartError):
            self.spec = None  # the next try takes executable, sys.path and environment anew
            raise
        except PreloadError as error:
            self.spec = None
            if error.module in self.asked and self.asked_policy == "fail":
                raise ServerPreloadError(*error.args) from None
            if error.module != "__main__":
                raise
            if error.cause.startswith("RuntimeError") and "bootstrapping phase" in error.cause:
                # The script starts processes when it is imported: each child would do so again (row 27).
                raise StartError("__main__", error.cause.strip() + f"\n\nIn the template:\n{error.traceback}") from None
            self.do_without_main(error.cause)
        return client.get_channel(self.get_spec(), self.start_timeout)

    def do_without_main(self, why: str) -> None:
        """Leave `__main__` to the children, and log the reason."""
        from logging import getLogger

        getLogger("warmfork").warning("__main__ is not preloaded, each child imports it itself: %s", why)
        self.main_is_unsafe = True
        self.spec = None

    def stop(self) -> None:
        """Let the template go and wait until it has; the next start has a fresh one."""
        if self.spec is None:
            return
        channel = get_client().channels.get(identify(self.spec))
        pidfd = channel.dup_template() if channel is not None else -1
        self.epoch += 1
        self.renew()
        get_client().forget_retired()
        if pidfd >= 0:
            fds.wait_readable(pidfd, STOP_TIMEOUT)
            os.close(pidfd)

    def get_pid(self) -> int | None:
        """Give the template's pid, or None where none runs."""
        if self.spec is None:
            return None
        channel = get_client().channels.get(identify(self.spec))
        return channel.pid if channel is not None and not channel.dead else None


def make_prepared(
    preload: Iterable[str],
    name: str | None,
    on_preload_error: str,
    audit: str,
    techniques: tuple[int, str, tuple[str, ...]],
    start_timeout: float | None,
    orphans: str | None,
) -> Prepared:
    """Check the options of install(), and have names tracked by our tracker from here on."""
    platform.check()
    items = check_preload(preload)
    check_policies(on_preload_error, audit)
    resources.take_over()
    return Prepared(items, name, on_preload_error, audit, techniques, start_timeout, orphans, installed=True)


def get_sys_path() -> list[str]:
    """Give sys.path with '' resolved to the folder in which the program was started, as multiprocessing does."""
    here = process.ORIGINAL_DIR or ""  # type: ignore[attr-defined]
    return [entry if entry else here for entry in sys.path if isinstance(entry, str)]  # type: ignore[redundant-expr]
