"""A template's large heap: 500 MB of Python objects, as a loaded model, a graph or a cache would be."""

from __future__ import annotations

import gc

MEGABYTES = 500
BYTES_EACH = 355
"""What one entry takes on 3.13: a dict's slot, a tuple, a list, a str, two ints, a float."""


def build(megabytes: int) -> dict[int, tuple[object, ...]]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        return {n: (n + 1000, f"entry {n}", [n, n + 1], n / 3) for n in range(megabytes * 1_000_000 // BYTES_EACH)}
    finally:
        if enabled:
            gc.enable()


entries = build(MEGABYTES)
