"""Contexts and their processes, as both a program and its children have them: a child has its parent's context as its
own. So the client's side is loaded only where a process is started."""

from __future__ import annotations

import os
from multiprocessing import process
from multiprocessing.context import BaseContext

from warmfork._words.times import DEFAULT, Default
from warmfork.mp.shared.root import check_root
from warmfork.mp.shared.stdlib import is_stdlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Literal

    from warmfork._words.spec import Spec
    from warmfork.api.options import Orphans
    from warmfork.mp.client.config import Prepared


MOST_UNSEEN = 8


class ContextProcess(process.BaseProcess):
    """A process of a warmfork context, as it is pickled: its context's own class is made anew in each program."""

    _start_method = None
    _context: Context | None = None
    _orphans: str | None = None

    if TYPE_CHECKING:

        def __init__(
            self,
            group: None = None,
            target: Callable[..., object] | None = None,
            name: str | None = None,
            args: Iterable[Any] = (),
            kwargs: Mapping[str, Any] = {},  # as multiprocessing has it
            *,
            daemon: bool | None = None,
            orphans: Orphans | None = None,
        ) -> None: ...

    else:

        def __init__(self, *arguments, orphans=None, **named):
            super().__init__(*arguments, **named)
            if orphans is not None:
                from warmfork.api.options import check_orphans

                self._orphans = check_orphans(orphans)

    def start(self) -> None:
        """Start the process: what BaseProcess.start() does, less a look at every process that lives."""
        if not is_stdlib(process.BaseProcess.start, process):  # somebody has put something round it
            super().start()
            return
        check_startable(self)
        self._started(self._Popen(self))

    def _started(self, popen: Any) -> None:
        look_after_the_dead()
        self._popen = popen
        self._sentinel = popen.sentinel
        # As the stdlib does: the target may hold an indirect reference to the process object (bpo-30775).
        del self._target, self._args, self._kwargs  # type: ignore[attr-defined]
        process._children.add(self)  # type: ignore[attr-defined]

    @staticmethod
    def _Popen(process_obj: process.BaseProcess) -> Any:
        own: Context = type(process_obj)._context  # type: ignore[attr-defined]
        beginning = load_beginning()
        return beginning.start(process_obj, own._get_prepared)

    def __reduce_ex__(self, protocol: Any) -> Any:
        if "_is_made" in vars(type(self)):
            return make_process, (), self.__dict__
        return super().__reduce_ex__(protocol)


def load_beginning() -> Any:
    """Load what starts processes: at the first start, for few children start any. Raises Refused where a change of the
    root directory has hidden it."""
    try:
        from warmfork.mp.client import beginning
    except ImportError:
        check_root()
        raise
    return beginning


def check_startable(obj: Any) -> None:
    """Raise AssertionError, in multiprocessing's words, where a process can't be started."""
    obj._check_closed()
    if obj._popen is not None:
        raise AssertionError("cannot start a process twice")
    if obj._parent_pid != os.getpid():
        raise AssertionError("can only start a process object created by current process")
    if process.current_process()._config.get("daemon"):  # type: ignore[attr-defined]
        raise AssertionError("daemonic processes are not allowed to have children")


_looked_at = 0


def look_after_the_dead() -> None:
    """Let go of processes that are dead and that nobody has joined. The stdlib looks at all that live at each start,
    which takes 3 ms with 2,000 of them; here it is done when there are twice as many as the last look has left."""
    global _looked_at
    known = process._children  # type: ignore[attr-defined]
    _looked_at = min(_looked_at, len(known))
    if len(known) > 2 * _looked_at + MOST_UNSEEN:
        process._cleanup()  # type: ignore[attr-defined]
        _looked_at = len(known)


def make_process() -> ContextProcess:
    """Make an empty process object, for unpickling."""
    return ContextProcess.__new__(ContextProcess)


class Context(BaseContext):
    """A multiprocessing context whose processes are forks of one template."""

    _name = "forkserver"

    def __repr__(self) -> str:
        return f"<warmfork context {self._get_prepared()!r}>"

    def __init__(self, description: tuple[Any, ...], spec: Spec | None = None) -> None:
        self._prepared: Prepared | None = None
        self._description = description
        self._spec = spec
        self._process: type[ContextProcess] | None = None

    def __reduce__(self) -> Any:
        return rebuild_context, (self._get_prepared().describe(),)

    def _get_prepared(self) -> Prepared:
        """Give options and spec of the template. Not for users."""
        if self._prepared is None:
            from warmfork.mp.client.config import Prepared

            self._prepared = Prepared.from_description(self._description, self._spec)
        return self._prepared

    @property
    def Process(self) -> type[ContextProcess]:
        """The class of this context's processes."""
        if self._process is None:
            # A class for each context, which pickle can't find by its name: found by the context, where it is wanted.
            reduce = staticmethod(lambda: (getattr, (self, "Process")))
            members = {"_context": self, "_is_made": True, "__module__": __name__, "__reduce_class__": reduce}
            self._process = type("Process", (ContextProcess,), members)
        return self._process

    def start_many(self, processes: Iterable[process.BaseProcess]) -> None:
        """Start these processes of this context, in one round trip to the template: all of them, or none.

        Each is as after its own start(). The function of none of them runs before all exist, up to 200 at a time. Where
        one can't be had, or can't be pickled, those that were begun are ended, what start() raises is raised, and all
        can be started again. Raises ValueError for a process of another context, and TypeError for one whose class has
        a start() of its own.
        """
        wanted: list[Any] = list(processes)
        for one in wanted:
            if not isinstance(one, ContextProcess) or type(one)._context is not self:
                raise ValueError(f"{one!r} is no process of this context")
            if type(one).start is not ContextProcess.start:
                raise TypeError(f"{type(one).__name__} has a start() of its own: start it by that")
            check_startable(one)
        if len(set(wanted)) < len(wanted):
            raise AssertionError("cannot start a process twice")
        if not wanted:
            return
        beginning = load_beginning()
        for one, popen in zip(wanted, beginning.start_many(wanted, self._get_prepared), strict=True):
            one._started(popen)

    def set_forkserver_preload(
        self, module_names: list[str], *, on_error: Literal["ignore", "warn", "fail"] = "warn"
    ) -> None:
        """Preload these modules as well as those of get_context(). A template that runs already is replaced at the
        next start. `on_error` is "fail", "warn" (logged, the default) or "ignore"."""
        from warmfork.api.options import check_choice

        check_choice("on_error", on_error, ("ignore", "warn", "fail"))
        names = list(module_names)
        if not all(type(name) is str for name in names):
            raise TypeError("module_names must be a list of strings")
        self._get_prepared().set_preload(names, on_error)

    def wait_ready(self, timeout: float | Default | None = DEFAULT) -> None:
        """Start the template, and wait until it has preloaded.

        Raises PreloadError, AuditError, or StartError where that takes longer than `timeout` seconds: None waits for
        ever; the `start_timeout` of this context, where it is not given.
        """
        from warmfork.api.options import check_timeout
        from warmfork.mp.shared import names as resources

        resources.take_over()
        prepared = self._get_prepared()
        limit = prepared.options.start_timeout if isinstance(timeout, Default) else check_timeout(timeout)
        prepared.get_channel(limit, live=True)

    def stop_template(self) -> None:
        """End the template; the next start has a fresh one. Processes that run run on: they are this
        program's, and it joins them. (Template.stop() ends the children too, for it is the one that has them all.)"""
        self._get_prepared().stop()

    @property
    def template_pid(self) -> int | None:
        """The template's pid, or None where none runs."""
        return self._get_prepared().get_pid()


_contexts: dict[tuple[Any, ...], Context] = {}


def rebuild_context(description: tuple[Any, ...], spec: Spec | None = None) -> Context:
    """Give the context of this description: one for each, in each process. In a child that was started from it, `spec`
    is that of the template from which the child was forked."""
    if description not in _contexts:
        _contexts[description] = Context(description, spec)
    return _contexts[description]


def forget_context(description: tuple[Any, ...]) -> None:
    """Let go of the context of this description, where there is one."""
    _contexts.pop(description, None)
