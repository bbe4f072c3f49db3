"""The tracker's command line names this file, and nothing else: all that varies comes through fd 3."""

from __future__ import annotations

import gc
import sys

gc.disable()  # nothing of what is loaded now is garbage
sys.path.insert(0, __file__.rpartition("/warmfork/")[0])

del __file__  # or a child that starts children would take this file for the main module of its program

from warmfork._tracker.main import main  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from warmfork._machine import sockets
    from warmfork._machine.loop import Loop
    from warmfork._names.registry import Names
    from warmfork._tracker.book import Book


def be_template(control: sockets.socket, launched: tuple[int, ...], client: tuple[int, int, int]) -> NoReturn:
    """Be the first template, in a fork of this interpreter: a second interpreter takes 8 ms."""
    from warmfork._idle.idle import Idle
    from warmfork._template.main import main

    main(control, Idle, launched, client)


def make_names(loop: Loop, book: Book) -> Names:
    """Make what keeps names. Loaded when the first template is there."""
    from warmfork._names.registry import Names

    return Names(loop, book)


main(be_template, make_names)
