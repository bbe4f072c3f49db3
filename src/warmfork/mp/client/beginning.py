"""How a process is started, by a context or by the installed "forkserver": the template comes up while the client is
loaded; and where no template can be had, spawn takes its place."""

from __future__ import annotations

from warmfork._machine import platform, role
from warmfork._words.errors import Refused, StartError, UnsupportedPlatform, WarmforkError
from warmfork.api.options import get_executable
from warmfork.mp.child.main_module import check_not_importing_main
from warmfork.mp.shared.root import check_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from warmfork.mp.client.config import Prepared

NO_TEMPLATE = ("launch", "template", "start_timeout")
"""The steps of a StartError that say that there is no template, and not that this one start went wrong."""


def start(process_obj: Any, get_prepared: Callable[[], Prepared]) -> Any:
    """Start a process from the template, or by spawn. Raises what begin() and Popen raise."""
    try:
        return load_popen(get_prepared).Popen(process_obj, get_prepared())
    except WarmforkError as error:
        check_spawn_helps(error)
        popen = spawn(process_obj, error)
        warn_of_spawn(get_prepared(), error)
        return popen


def start_many(processes: list[Any], get_prepared: Callable[[], Prepared]) -> list[Any]:
    """Start these, all or none."""
    try:
        started: list[Any] = load_popen(get_prepared).start_many(processes, get_prepared())
        return started
    except WarmforkError as error:
        check_spawn_helps(error)
        started = spawn_all(processes, error)
        warn_of_spawn(get_prepared(), error)
        return started


def load_popen(get_prepared: Callable[[], Prepared]) -> Any:
    """Begin, and load what feeds processes meanwhile. Raises what begin() raises, and Refused where a change of the root
    directory has hidden it."""
    try:
        begin(get_prepared)
        from warmfork.mp.client import popen
    except ImportError:
        check_root()
        raise
    return popen


def spawn_all(processes: list[Any], error: WarmforkError) -> list[Any]:
    """Spawn these, all or none."""
    started: list[Any] = []
    try:
        for process_obj in processes:
            started.append(spawn(process_obj, error))
    except BaseException:
        for popen in started:
            popen.kill()
        for popen in started:
            popen.wait()
            popen.close()
        raise
    return started


def begin(get_prepared: Callable[[], Prepared]) -> None:
    """Have the template started, before anything is loaded that only the client needs: first the interpreter, then
    what tells it what to be. Raises RuntimeError where the main module has no guard, UnsupportedPlatform
    where warmfork can't work."""
    from warmfork._client import spawn

    check_not_importing_main()
    platform.check()
    spawn.begin(get_executable())
    try:
        get_prepared().begin()
    finally:
        spawn.end()


def check_spawn_helps(error: WarmforkError) -> None:
    """Raise the error again where spawn is no remedy: a preload or an audit that failed, a script without a guard, an
    interpreter that can't be run, one start that met a limit."""
    no_template = isinstance(error, StartError) and error.step in NO_TEMPLATE
    if error.__cause__ is not None and isinstance(error.__cause__, OSError):  # of "launch": spawn would meet it as well
        no_template = False
    if role.kind == role.TEMPLATE or not (no_template or isinstance(error, (Refused, UnsupportedPlatform))):
        raise error.with_traceback(None) from None


def warn_of_spawn(chosen: Prepared, error: WarmforkError) -> None:
    """Say once, for each template, that there is none, and why."""
    if not chosen.fell_back:
        chosen.fell_back = True
        from warnings import warn

        warn(f"processes are started by spawn, which is slower: {error}", RuntimeWarning, stacklevel=5)


def spawn(process_obj: Any, error: WarmforkError) -> Any:
    """Start a process as multiprocessing's spawn does. Raises the error for which that was tried where it fails too: where
    this process may read no module of Python's any longer."""
    try:
        from multiprocessing import popen_spawn_posix

        return popen_spawn_posix.Popen(process_obj)
    except (ImportError, OSError) as failure:
        error.add_note(f"Starting it by spawn was tried as well: {failure}")
        raise error.with_traceback(None) from None
