"""What all doors do before anything is started: check what users pass, flush what they printed."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


START_TIMEOUT = 120.0
"""Seconds that a template may take to preload, unless told otherwise: a big framework on a cold disk needs tens."""


def check_preload(preload: Iterable[str]) -> tuple[str, ...]:
    """Check a preload list. Raises TypeError or ValueError."""
    if isinstance(preload, str):
        raise TypeError(f'preload is a list of names: ["{preload}"], not "{preload}"')
    items = tuple(preload)
    for item in items:
        if not isinstance(item, str):
            raise TypeError(f'preload takes names ("numpy", "app.models:load"), not {item!r}')
        module, colon, function = item.partition(":")
        parts = [*module.split("."), *(function.split(".") if colon else ())]
        if not all(part.isidentifier() for part in parts):
            raise ValueError(f'no name of a module, or of a function in one (as "app.models:load"): "{item}"')
    return items


def check_choice(option: str, value: str, choices: tuple[str, ...]) -> None:
    """Check an option that is one of a few words. Raises ValueError."""
    if value not in choices:
        raise ValueError(f"{option} is one of {', '.join(map(repr, choices))}, not {value!r}")


def read_spares(spares: str | int) -> int:
    """Give the number of spares that an option asks for, -1 for "auto". Raises ValueError."""
    if spares == "auto":
        return -1
    if isinstance(spares, bool) or not isinstance(spares, int) or not 0 <= spares <= MOST_SPARES:
        raise ValueError(f'spares is "auto" or a number from 0 to {MOST_SPARES}, not {spares!r}')
    return spares


MOST_SPARES = 64


def check_policies(on_preload_error: str, audit: str) -> None:
    """Check the options that all doors have. Raises ValueError."""
    check_choice("on_preload_error", on_preload_error, ("raise", "warn"))
    check_choice("audit", audit, ("refuse", "warn", "off"))


def flush_streams() -> None:
    """Flush stdout and stderr, so that what was printed before a start comes before what the child prints."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (AttributeError, ValueError, OSError):
            continue
