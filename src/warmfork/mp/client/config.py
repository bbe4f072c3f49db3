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
from warmfork._machine import fds, state, wanted
from warmfork._words.errors import AuditError, PreloadError, StartError
from warmfork._words.spec import Spec, identify
from warmfork._words.times import DEFAULT, Default
from warmfork.api.main_module import MissingGuard, describe_main, find_unguarded
from warmfork.api.options import Options, flush_streams, get_executable, read_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LOADER = "warmfork.mp.child.bootstrap:prepare_template"
ENTRY = "warmfork.mp.child.bootstrap:run_process"
STOP_TIMEOUT = 5.0


class ServerPreloadError(PreloadError, EOFError):
    """A preload failed that was asked for with on_error="fail": programs of multiprocessing catch EOFError then."""

    def __init__(self, module: str, cause: str, traceback: str = "") -> None:
        super().__init__(module, cause, traceback)
        self.add_note("Forkserver process may have crashed during module preloading. Check stderr.")


class Prepared:
    """Options and preload list of one context's template."""

    def __init__(self, options: Options, installed: bool = False) -> None:
        self.options = options
        self.installed = installed
        self.asked: tuple[str, ...] = ()  # by set_forkserver_preload()
        self.asked_policy = "ignore"
        self.epoch = 0
        self.main_is_unsafe = False
        self.fell_back = False
        self.spec: Spec | None = None

    def __repr__(self) -> str:
        return f"{self.options.name or get_program_name()} preload={list(self.options.preload + self.asked)}"

    def describe(self) -> tuple[Any, ...]:
        """Give what a child needs to have the same, as values that marshal can write."""
        return (
            self.options.describe(),
            self.installed,
            self.asked,
            self.asked_policy,
            self.epoch,
            self.main_is_unsafe,
        )

    @classmethod
    def from_description(cls, description: tuple[Any, ...], spec: Spec | None) -> Prepared:
        """Make one from what describe() gave, or from the first two of it; in a child, with the spec of its own
        template."""
        made = cls(Options(description[0]), description[1])
        if description[2:]:
            made.asked, made.asked_policy, made.epoch, made.main_is_unsafe = description[2:]
        made.spec = spec
        return made

    @classmethod
    def from_environment(cls) -> Prepared:
        """Make the installed one from the environment, where the start-up hook did the installing."""
        return cls(read_options(), installed=True)

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
            options = self.options
            kind, value = ("", "") if self.main_is_unsafe else describe_main()
            self.spec = Spec(
                name=options.name or get_program_name(),
                executable=get_executable(),
                flags=get_flags(),
                preload=options.preload + self.asked,
                policies=(options.on_preload_error,) * len(options.preload) + (self.asked_policy,) * len(self.asked),
                audit=options.audit,
                spares=options.spares,
                huge_pages=options.huge_pages,
                without=options.without,
                entry=ENTRY,
                loader=LOADER,
                loader_arguments=(kind, value, "installed" if self.installed else ""),
                sys_path=tuple(get_sys_path()),
                argv=tuple(map(str, sys.argv)),
                own_environment=0,
                environment=state.join_environment(state.get_environment()),
                epoch=self.epoch,
                wanted=wanted.list_stdlib(),
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

    def get_channel(self, timeout: float | Default | None = DEFAULT, live: bool = False) -> Channel:
        """Give a channel to the template, started if need be within so many seconds (start_timeout, where nothing is
        said); `live`: one that is not known to be dead at this moment. Raises PreloadError, AuditError, StartError."""
        client = get_client()
        limit = self.options.start_timeout if isinstance(timeout, Default) else timeout
        try:
            if live:
                return client.get_live_channel(self.get_spec(), limit)
            return client.get_channel(self.get_spec(), limit)
        except (AuditError, StartError) as error:
            runs_main = self.spec is not None and bool(self.spec.loader_arguments[0])
            self.spec = None  # the next try takes executable, sys.path and environment anew
            if not (isinstance(error, StartError) and error.step == "start_timeout" and runs_main):
                raise
            # It was running `__main__`, which nobody has asked to have preloaded.
            self.do_without_main(error.cause)
        except PreloadError as error:
            self.spec = None
            if error.module in self.asked and self.asked_policy == "fail":
                raise ServerPreloadError(*error.args) from None
            if error.module != "__main__":
                raise
            if error.cause.startswith("RuntimeError") and "bootstrapping phase" in error.cause:
                # The script starts processes when it is imported: each child would do so again.
                raise MissingGuard(find_unguarded(error.traceback)) from None
            self.do_without_main(error.cause)
        return client.get_channel(self.get_spec(), limit)

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
        get_client().close_retired(owed=True)
        if pidfd >= 0:
            fds.wait_readable(pidfd, STOP_TIMEOUT)
            os.close(pidfd)

    def get_pid(self) -> int | None:
        """Give the template's pid, or None where none runs."""
        if self.spec is None:
            return None
        channel = get_client().channels.get(identify(self.spec))
        return channel.pid if channel is not None and not channel.dead else None


def get_sys_path() -> list[str]:
    """Give sys.path with '' resolved to the folder in which the program was started, as multiprocessing does."""
    here = process.ORIGINAL_DIR or ""  # type: ignore[attr-defined]
    return [entry if entry else here for entry in sys.path if isinstance(entry, str)]  # type: ignore[redundant-expr]
