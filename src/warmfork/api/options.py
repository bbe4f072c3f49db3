"""What all doors do before anything is started: check what users pass, flush what they printed."""

from __future__ import annotations

import os
import sys

from warmfork._words.spec import TECHNIQUES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any


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


def read_huge_pages(huge_pages: str | bool) -> str:
    """Give the word of spec.HUGE_PAGES that an option asks for. Raises ValueError."""
    if isinstance(huge_pages, bool):
        return "on" if huge_pages else "off"
    if huge_pages != "auto":
        raise ValueError(f'huge_pages is "auto", True or False, not {huge_pages!r}')
    return huge_pages


def read_techniques(
    spares: str | int | None, huge_pages: str | bool | None, without: Iterable[str] | None
) -> tuple[int, str, tuple[str, ...]]:
    """Give the fields `spares`, `huge_pages` and `without` of a spec. What is None is taken from the environment:
    WARMFORK_SPARES, WARMFORK_HUGE_PAGES, WARMFORK_WITHOUT (comma-separated), and WARMFORK_<TECHNIQUE>=0 for each of
    spec.TECHNIQUES. Raises TypeError or ValueError."""
    off = read_without_variables() if without is None else check_without(without)
    given = {"spares": spares, "huge_pages": huge_pages}
    for technique, value in given.items():
        if without is not None and technique in off and value is not None:
            raise ValueError(
                f"{technique}={value!r} and without={list(off)!r} contradict each other: leave out one of them"
            )
    if spares is None:
        spares = 0 if "spares" in off else read_variable("WARMFORK_SPARES", read_spares, "auto")
    if huge_pages is None:
        huge_pages = False if "huge_pages" in off else read_variable("WARMFORK_HUGE_PAGES", read_huge_pages, "auto")
    rest = tuple(technique for technique in TECHNIQUES if technique in off and technique not in given)
    return read_spares(spares), read_huge_pages(huge_pages), rest


def check_without(without: Iterable[str]) -> tuple[str, ...]:
    """Check a list of techniques. Raises TypeError or ValueError."""
    if isinstance(without, str):
        raise TypeError(f'without is a list of techniques: ["{without}"], not "{without}"')
    names = tuple(without)
    for name in names:
        check_choice("each of without", name, TECHNIQUES)
    return names


def read_without_variables() -> tuple[str, ...]:
    """Give the techniques that the environment switches off. Raises ValueError, naming the variable."""
    names = [name.strip() for name in os.environ.get("WARMFORK_WITHOUT", "").split(",")]
    for name in filter(None, names):
        check_choice("each of WARMFORK_WITHOUT", name, TECHNIQUES)
    for name in TECHNIQUES:
        variable = f"WARMFORK_{name.upper()}"
        text = os.environ.get(variable, "").strip().lower()
        if text in OFF:
            names.append(name)
        elif text and text not in ON and name not in ("spares", "huge_pages"):
            raise ValueError(f"{variable} is 0 (do without) or 1, not {os.environ[variable]!r}")
    return tuple(filter(None, names))


OFF, ON = ("0", "off", "no", "false"), ("1", "on", "yes", "true")


def read_variable(variable: str, read: Callable[[Any], object], otherwise: str) -> Any:
    """Give what a variable asks for, as the option of the same name takes it. Raises ValueError, naming the variable."""
    text = os.environ.get(variable, "").strip() or otherwise
    value: Any = int(text) if text.isdigit() and read is read_spares else text
    if read is read_huge_pages and text.lower() in ON:
        value = True
    try:
        read(value)
    except ValueError as error:
        raise ValueError(f"{variable}: {error}") from None
    return value


def read_orphans(orphans: str | None) -> str | None:
    """Give what is to become of children whose starter dies: "kill", "keep", or None for the default of the door. What
    is None is taken from WARMFORK_ORPHANS. Raises ValueError."""
    if orphans is not None:
        check_choice("orphans", orphans, ORPHANS)
        return orphans
    text = os.environ.get("WARMFORK_ORPHANS", "").strip() or None
    if text is not None:
        check_choice("WARMFORK_ORPHANS", text, ORPHANS)
    return text


ORPHANS = ("kill", "keep")


def check_policies(on_preload_error: str, audit: str) -> None:
    """Check the options that all doors have. Raises ValueError."""
    check_choice("on_preload_error", on_preload_error, ("raise", "warn"))
    check_choice("audit", audit, ("refuse", "warn", "off"))


def get_executable() -> str:
    """Give the interpreter that the program wants for its processes, or "" where it has none."""
    spawn = sys.modules.get("multiprocessing.spawn")  # not loaded: nobody has called set_executable()
    executable = spawn.get_executable() if spawn is not None else sys.executable
    return os.fsdecode(executable) if executable else ""


def flush_streams() -> None:
    """Flush stdout and stderr, so that what was printed before a start comes before what the child prints."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (AttributeError, ValueError, OSError):
            continue
