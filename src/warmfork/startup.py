"""The start-up hook: installs warmfork in a program that knows nothing of it.

`warmfork_startup.pth` in site-packages calls activate() in every interpreter that has WARMFORK_RUN
set. That is before the program's first line, so three things must never happen here: importing
multiprocessing (a program that does without it must not pay), importing anything else that costs,
and stopping the interpreter. A failure is one line on stderr, and the program runs on the stdlib.
"""

from __future__ import annotations

import os
import sys

from warmfork.mp.shared.watching import WATCHED, watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

VARIABLE = "WARMFORK_RUN"
TARGET = "multiprocessing.context"
NAMING = ("multiprocessing.synchronize", "multiprocessing.resource_tracker")


def activate() -> None:
    """Arrange for warmfork to be installed once multiprocessing is there. Calling it again does nothing."""
    if os.environ.get(VARIABLE, "0") not in ("", "0") and TARGET not in WATCHED:
        watch(TARGET, serve)
        if os.environ.get("WARMFORK_REPORT", "0") not in ("", "0"):
            from warmfork.report import begin

            begin(watch)


def serve(module: ModuleType) -> None:
    """Put warmfork in the stdlib's place, and have it asked for by those who name no start method.

    Only what "the default" means changes, as it did in Python 3.14: nothing is set, so the program may still set one.
    """
    if install() and os.environ.get("WARMFORK_KEEP_DEFAULT", "0") in ("", "0"):
        module._default_context._default_context = module._concrete_contexts["forkserver"]


def watch_names() -> list[str]:
    """Have what multiprocessing gives names to (Lock, SharedMemory) tracked by our tracker, from the moment at which it
    could give one. Also the loader of templates that are not multiprocessing's: their children inherit it."""
    for module in NAMING:
        if module not in WATCHED:
            watch(module, patch_names)
    return []


def prepare(folder: str = "") -> list[str]:
    """The loader of templates that will run code: what their children need for that (1 ms) is loaded here, once. `folder`
    is where to preload; the seal puts back what it was."""
    from warmfork._tasks import run as run

    if folder:
        os.chdir(folder)
    return watch_names()


def patch_names(_module: ModuleType) -> None:
    """The program is about to make something with a name."""
    from warmfork.mp.shared import names as resources

    resources.take_over()


def install() -> bool:
    """Put warmfork in the stdlib's place, or say in one line why not. Gives whether it is there."""
    try:
        from warmfork.mp.client.install import install_from_environment

        install_from_environment()
        watch_names()
    except Exception as error:
        report(error)
        return False
    return True


def report(error: Exception) -> None:
    """One line on stderr, if there is one."""
    cause = " ".join(str(error).split())
    line = f"warmfork: not active in pid {os.getpid()}: {type(error).__name__}: {cause}\n"
    try:
        sys.stderr.write(line)
    except (AttributeError, OSError, ValueError):
        # No stderr (None), a broken one, or a closed one: there is nobody to tell, and the
        # program's own business goes on.
        return
