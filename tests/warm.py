"""A module to preload: it notes in which process it was imported, and where fill() was called."""

from __future__ import annotations

import os

imported_by = os.getpid()
filled_by: list[int] = []


def fill() -> None:
    filled_by.append(os.getpid())
