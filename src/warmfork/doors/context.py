"""The context door: `ctx = warmfork.get_context(preload=[...])`, a multiprocessing context with its own template."""

from __future__ import annotations

from multiprocessing import context, process

from warmfork._machine import platform
from warmfork.doors import prepared, resources
from warmfork.doors.template import START_TIMEOUT, check_choice, check_preload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from warmfork._words.spec import Spec


class ContextProcess(process.BaseProcess):
    """A process of a warmfork context, as it is pickled: its context's own class is made anew in each program."""

    _start_method = None
    _prepared: prepared.Prepared | None = None

    @staticmethod
    def _Popen(process_obj: process.BaseProcess) -> Any:
        from warmfork.doors.popen import Popen

        return Popen(process_obj, type(process_obj)._prepared)  # type: ignore[attr-defined]

    def __reduce_ex__(self, protocol: Any) -> Any:
        if "_is_made" in vars(type(self)):
            return make_process, (), self.__dict__
        return super().__reduce_ex__(protocol)


def make_process() -> ContextProcess:
    """Make an empty process object, for unpickling."""
    return ContextProcess.__new__(ContextProcess)


class Context(context.BaseContext):
    """A multiprocessing context whose processes are forks of one template."""

    _name = "forkserver"
    Process: type[ContextProcess]

    def __init__(self, chosen: prepared.Prepared) -> None:
        self._prepared = chosen
        self.Process = type(
            "Process", (ContextProcess,), {"_prepared": chosen, "_is_made": True, "__module__": __name__}
        )

    def __reduce__(self) -> Any:
        return rebuild_context, (self._prepared.describe(),)

    def set_forkserver_preload(self, module_names: list[str], *, on_error: str = "warn") -> None:
        """Preload these modules as well as those of get_context(). A template that runs already is replaced at the
        next start. `on_error` is "fail", "warn" (logged, the default) or "ignore"."""
        check_choice("on_error", on_error, ("ignore", "warn", "fail"))
        names = list(module_names)
        if not all(type(name) is str for name in names):
            raise TypeError("module_names must be a list of strings")
        self._prepared.set_preload(names, on_error)

    def wait_ready(self) -> None:
        """Start the template, and wait until it has preloaded. Raises PreloadError, AuditError, StartError."""
        resources.take_over()
        self._prepared.get_channel()

    def stop_template(self) -> None:
        """End the template; the next start has a fresh one. Processes that run run on."""
        self._prepared.stop()

    @property
    def template_pid(self) -> int | None:
        """The template's pid, or None where none runs."""
        return self._prepared.get_pid()


def get_context(
    preload: Iterable[str] = (),
    *,
    name: str | None = None,
    on_preload_error: str = "raise",
    audit: str = "warn",
    start_timeout: float | None = START_TIMEOUT,
) -> Context:
    """Give a multiprocessing context with a template of its own.

    It is what `multiprocessing.get_context("forkserver")` gives, and faster: `ctx.Process`, `ctx.Pool`, `ctx.Queue`,
    `ProcessPoolExecutor(mp_context=ctx)` ...

    Args:
        preload: modules to import ("numpy"), and functions to call ("app.models:load"), in this order, in the template.
        name: what `ps` shows; the program's own name by default.
        on_preload_error: "raise" (PreloadError at the first start) or "warn" (logged, and the children do without).
        audit: what to do about threads and other things that a fork does not survive, where the preload left some:
            "warn" logs them, "refuse" raises AuditError, "off" does not look.
        start_timeout: seconds that preloading may take.

    Raises UnsupportedPlatform where warmfork can't work.
    """
    return Context(make_prepared(preload, name, on_preload_error, audit, start_timeout, installed=False))


def make_prepared(
    preload: Iterable[str],
    name: str | None,
    on_preload_error: str,
    audit: str,
    start_timeout: float | None,
    *,
    installed: bool,
) -> prepared.Prepared:
    """Check the options, and have names tracked by our tracker from here on."""
    platform.check()
    items = check_preload(preload)
    check_choice("on_preload_error", on_preload_error, ("raise", "warn"))
    check_choice("audit", audit, ("refuse", "warn", "off"))
    resources.take_over()
    return prepared.Prepared(items, name, on_preload_error, audit, start_timeout, installed)


_contexts: dict[tuple[Any, ...], Context] = {}


def rebuild_context(description: tuple[Any, ...]) -> Context:
    """Give the context of this description: one for each, in each process."""
    if description not in _contexts:
        _contexts[description] = Context(prepared.Prepared.from_description(description, None))
    return _contexts[description]


def adopt_context(description: tuple[Any, ...], spec: Spec | None) -> Context:
    """In a child: give the context that it was started from, with the template that it was forked from."""
    found = rebuild_context(description)
    found._prepared.spec = spec
    return found


