"""Which of the numbers 1 and 2 are this process's stdout and stderr."""

from __future__ import annotations

import sys

from warmfork._machine import fds


def list_open() -> list[int]:
    """List which of 1 and 2 are this process's stdout and stderr. One that was closed when the interpreter began is none,
    whatever has its number since then: sys.__stdout__ is None, and nobody prints there. stdin is handed to nobody."""
    streams = ((1, sys.__stdout__), (2, sys.__stderr__))
    return [number for number, stream in streams if stream is not None and fds.is_open(number)]
