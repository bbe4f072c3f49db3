"""The options that Template, get_context() and install() share: one frozen object, read once from the arguments and from
the environment (WARMFORK_<OPTION>). Arguments win. What is wrong is refused here, by its name."""

from __future__ import annotations

import os
import sys

from warmfork._words.spec import LEARNT, TECHNIQUES
from warmfork._words.times import DEFAULT, Default, check_seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any, Literal, Protocol, TypeAlias

    class Names(Protocol):
        """A list, tuple or set of names, and not one name: what a str says of `in` differs from what those say."""

        def __iter__(self) -> Iterator[str]: ...
        def __contains__(self, key: object, /) -> bool: ...

    Preload: TypeAlias = Names | Iterator[str] | Literal["auto"]
    OnPreloadError: TypeAlias = Literal["raise", "warn"]
    Audit: TypeAlias = Literal["refuse", "warn", "off"]
    Spares: TypeAlias = Literal["auto"] | int
    HugePages: TypeAlias = Literal["auto"] | bool
    Orphans: TypeAlias = Literal["kill", "keep"]
    Environment: TypeAlias = Mapping[str, str] | Literal["minimal"] | None


__all__ = ["DEFAULT", "Default"]

START_TIMEOUT = 120.0
"""Seconds that a template may take to preload, unless told otherwise: a big framework on a cold disk needs tens."""

MOST_SPARES = 64
LONGEST_NAME = 200
"""Bytes of a name in titles and messages: /proc shows 255, and a title has more to tell."""

ORPHANS = ("kill", "keep")

AUTO = "auto"
"""The word for what is learnt, among preload items; LEARNT stands for it then, and comes last."""


class Options:
    """What is asked of a template. Made by read_options(); not to be changed."""

    __slots__ = (
        "audit", "huge_pages", "name", "on_preload_error", "orphans", "preload", "spares", "start_timeout", "without",
    )  # fmt: skip

    preload: tuple[str, ...]
    name: str | None
    on_preload_error: str
    audit: str
    spares: int
    huge_pages: str
    without: tuple[str, ...]
    start_timeout: float | None
    orphans: str | None

    def __init__(self, values: tuple[Any, ...]) -> None:
        for field, value in zip(self.__slots__, values, strict=True):
            object.__setattr__(self, field, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("options are not changed: make new ones")

    def describe(self) -> tuple[Any, ...]:
        """Give the values, as marshal can write them: Options(values) is equal."""
        return tuple(getattr(self, field) for field in self.__slots__)

    @property
    def out_of_band(self) -> bool:
        """Do large buffers travel outside of pickles?"""
        return "out_of_band" not in self.without


def read_options(
    preload: Preload | Default = DEFAULT,
    name: str | None = None,
    on_preload_error: OnPreloadError | None = None,
    audit: Audit | None = None,
    spares: Spares | None = None,
    huge_pages: HugePages | None = None,
    start_timeout: float | Default | None = DEFAULT,
    orphans: Orphans | None = None,
) -> Options:
    """Take each option from its argument, or from its variable where that was not given, or its default. Raises TypeError
    and ValueError, which name the argument or the variable."""
    without = read("without", None, split, check_without, ())
    found = {
        "preload": read(
            "preload", None if isinstance(preload, Default) else check_preload(preload), split, check_preload, ()
        ),
        "name": read("name", check_name(name), str, check_name, None),
        "on_preload_error": read("on_preload_error", on_preload_error, str, check_preload_policy, "raise"),
        "audit": read("audit", audit, str, check_audit, "warn"),
        "spares": read("spares", spares, read_word, check_spares, 0 if "spares" in without else "auto"),
        "huge_pages": read(
            "huge_pages", huge_pages, read_word, check_huge_pages, "huge_pages" not in without and "auto"
        ),
        "start_timeout": read_timeout(start_timeout),
        "orphans": read("orphans", orphans, str, check_orphans, None),
        "without": tuple(technique for technique in without if technique not in ("spares", "huge_pages")),
    }
    return Options(tuple(found[field] for field in Options.__slots__))


def read(
    option: str, given: object, parse: Callable[[str], object], check: Callable[[Any], object], otherwise: object
) -> Any:
    """Give what check() makes of an option: of the argument, of the variable's text, or of the default."""
    if given is not None:
        return check(given)
    variable = f"WARMFORK_{option.upper()}"
    text = os.environ.get(variable, "").strip()
    if not text:
        return check(otherwise)
    try:
        return check(parse(text))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{variable}={text}: {error}") from None


def read_timeout(given: float | Default | None) -> float | None:
    """Give start_timeout, for which None is a value: for ever, "none" in the variable."""
    if not isinstance(given, Default):
        return check_timeout(given)
    found: float | None = read("start_timeout", None, read_seconds, check_timeout, START_TIMEOUT)
    return found


def read_seconds(text: str) -> float | None:
    """Read a time from a variable."""
    if text.lower() == "none":
        return None
    try:
        return float(text)
    except ValueError:
        raise ValueError('no number of seconds, and not "none" (for ever)') from None


def check_timeout(seconds: float | None) -> float | None:
    """Check start_timeout. Raises TypeError or ValueError."""
    check_seconds("start_timeout", seconds)
    return None if seconds is None else float(seconds)


def split(text: str) -> tuple[str, ...]:
    """Read a list from a variable: words with commas between them."""
    return tuple(filter(None, (item.strip() for item in text.split(","))))


def read_word(text: str) -> str | int | bool:
    """Read a number, a yes or no, or another word from a variable."""
    if text.isdigit() and text not in ("0", "1"):
        return int(text)
    return {"0": 0, "1": 1, "on": True, "yes": True, "true": True, "off": False, "no": False, "false": False}.get(
        text.lower(), text
    )


def check_preload(preload: object) -> tuple[str, ...]:
    """Check a preload list. Raises TypeError or ValueError."""
    if preload == AUTO:
        return (LEARNT,)
    if isinstance(preload, str):
        raise TypeError(f'preload is a list of names: ["{preload}"], not "{preload}"')
    try:
        items: tuple[object, ...] = tuple(preload)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f'preload is a list of names (["numpy"]; [] for none), not {preload!r}') from None
    for item in items:
        if not isinstance(item, str):
            raise TypeError(f'preload takes names ("numpy", "app.models:load"), not {item!r}')
        module, colon, function = item.partition(":")
        parts = [*module.split("."), *(function.split(".") if colon else ())]
        if not all(part.isidentifier() for part in parts):
            raise ValueError(f'no name of a module, or of a function in one (as "app.models:load"): "{item}"')
        if module.endswith(".py"):
            raise ValueError(f'preload takes names of modules, not of files: "{module[:-3]}", not "{module}"')
    if AUTO in items or LEARNT in items:
        return (*(item for item in items if item not in (AUTO, LEARNT)), LEARNT)  # type: ignore[arg-type]
    return items  # type: ignore[return-value]


def check_choice(option: str, value: object, choices: tuple[str, ...]) -> None:
    """Check an option that is one of a few words. Raises ValueError."""
    if value not in choices:
        raise ValueError(f"{option} is one of {', '.join(map(repr, choices))}, not {value!r}")


def check_name(name: object) -> str | None:
    """Check a name that may be None. Raises TypeError."""
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name is text, not {name!r}")
    return fit_name(name) if name else None


def fit_name(name: str) -> str:
    """Give a name as titles and messages can have it: without control characters, and cut where it is longer than 200
    bytes."""
    if len(name) > LONGEST_NAME or not name.isprintable() or not name.isascii():
        readable = "".join(letter if letter.isprintable() else "?" for letter in name[: LONGEST_NAME + 1])
        data = readable.encode(errors="replace")
        if len(data) > LONGEST_NAME:
            return data[: LONGEST_NAME - 3].decode(errors="ignore") + "..."
        return data.decode()
    return name


def check_preload_policy(value: str) -> str:
    """Check on_preload_error. Raises ValueError."""
    check_choice("on_preload_error", value, ("raise", "warn"))
    return value


def check_audit(value: str) -> str:
    """Check audit. Raises ValueError."""
    check_choice("audit", value, ("refuse", "warn", "off"))
    return value


def check_orphans(value: str | None) -> str | None:
    """Check orphans: "kill", "keep", or None for what each way to start a process has by default. Raises ValueError."""
    if value is not None:
        check_choice("orphans", value, ORPHANS)
    return value


def check_spares(spares: str | int) -> int:
    """Give the number of spares that is asked for, -1 for "auto". Raises ValueError."""
    if spares == "auto":
        return -1
    if isinstance(spares, bool) or not isinstance(spares, int) or not 0 <= spares <= MOST_SPARES:
        raise ValueError(f'spares is "auto" or a number from 0 to {MOST_SPARES}, not {spares!r}')
    return spares


def check_huge_pages(huge_pages: str | bool) -> str:
    """Give the word of Spec.huge_pages that is asked for. Raises ValueError."""
    if huge_pages in (True, False):
        return "on" if huge_pages else "off"
    if huge_pages != "auto":
        raise ValueError(f'huge_pages is "auto", True or False, not {huge_pages!r}')
    return "auto"


def check_without(names: tuple[str, ...]) -> tuple[str, ...]:
    """Check a list of techniques. Raises ValueError. Gives them in the order of spec.TECHNIQUES."""
    for name in names:
        check_choice("each", name, TECHNIQUES)
    return tuple(technique for technique in TECHNIQUES if technique in names)


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
