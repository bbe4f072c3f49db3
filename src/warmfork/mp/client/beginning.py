"""How a start of a multiprocessing door begins: the template comes up while the client is loaded."""

from __future__ import annotations

from multiprocessing import process

from warmfork.api.options import get_executable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from warmfork.mp.client.config import Prepared


def begin(get_prepared: Callable[[], Prepared]) -> None:
    """Have the template started, before anything is loaded that only the client needs: first the interpreter, then
    what tells it what to be. Raises RuntimeError where the main module has no guard, UnsupportedPlatform
    where warmfork can't work."""
    from warmfork._client import spawn
    from warmfork._machine import platform, role

    check_not_importing_main()
    if role.kind == role.PROGRAM:
        platform.check()
    spawn.begin(get_executable())
    try:
        get_prepared().begin()
    finally:
        spawn.end()


def check_not_importing_main() -> None:
    """Raise RuntimeError, in multiprocessing's words, where `__main__` starts processes while it is imported."""
    if getattr(process.current_process(), "_inheriting", False):
        from multiprocessing import spawn

        spawn._check_not_importing_main()  # type: ignore[attr-defined]
