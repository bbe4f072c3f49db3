"""`warmfork doctor`: what a preload list does to a template and its children, and what to do about it."""

from __future__ import annotations

import os
import sys

from warmfork.cli.command import BadUsage, Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

COMMAND = Command(
    "doctor",
    "[OPTIONS] MODULE... | FILE",
    """
    Imports modules as a template would, in a bare process that it starts for this, and says what each costs and what it
    leaves behind that a fork does not survive: threads, sockets, GPUs, held locks. A FILE is run as a template runs a
    script, so what is under its guard does not run. MODULE:FUNCTION also calls the function.

    Threads are counted after a throw-away fork, for OpenBLAS and others stop theirs there. Two canary children then do
    what children do, within a deadline, and draw random numbers, which must differ. At the end it says what is good to
    preload, and measures what that brings.
    """,
    [
        Option("--json", "one object instead of tables, for machines"),
        Option("--call", "have a child call this, and say what it imports that the template had not", "M:F"),
        Option("--timeout", "how long the imports, or a canary, may take; 120 and 10 if not given", "SECONDS"),
        Option("--no-measure", "leave out the measuring, which starts a few children"),
    ],
    [
        ("warmfork doctor numpy pandas", "are they good to preload, and what do they bring?"),
        ("warmfork doctor app.py", "what a script's template would have"),
        ("warmfork doctor --call app.tasks:warm app.tasks", "and which modules its task imports late"),
        ("warmfork doctor --json torch | jq .findings", "for machines"),
    ],
    [
        ("0", "safe: nothing was found that harms children"),
        ("1", "there are findings; or the output can't be written"),
        ("2", "could not tell: an import failed, or took too long; or a wrong call"),
    ],
    more="""\
The fields of --json:
  verdict      "safe", "findings" or "unknown"
  items        what was asked for: item, ms, mib, error ("" for none)
  modules      each module that was imported: name, by (which module's import
               brought it), ms and mib with what it brings, own_ms, own_mib
  findings     objects with severity ("danger", "warning" or "note"), kind,
               module, what, in_child (true, false, or null where nobody
               knows), advice
  preload      the suggested list
  effect       milliseconds and MiB, with and without it; null where nothing was
               measured""",
    words=(),
)

DEADLINE = 120.0
CANARY = 10.0


def main(argv: list[str]) -> int:
    """Examine what is named. Gives 0, 1 or 2. Raises BadUsage; OSError where the output can't be written."""
    given, items = parse(argv)
    from warmfork.cli import checkup

    seconds = read_seconds(given.get("timeout"))
    call = given.get("call", "")
    if call and not is_function(call):
        raise BadUsage(f'--call wants module:function, not "{call}"', "for example --call app.tasks:warm")
    progress = Progress()
    try:
        found = checkup.examine(items, call, seconds or DEADLINE, seconds or CANARY, progress)
        if "no-measure" not in given and found["preload"]:
            found["effect"] = checkup.measure(found["preload"], seconds or DEADLINE, progress)
    finally:
        progress.clear()
    show(found, "json" in given)
    return {"safe": 0, "findings": 1, "unknown": 2}[found["verdict"]]


def parse(argv: list[str]) -> tuple[dict[str, str], list[str]]:
    """Read the options and the items. Raises BadUsage."""
    words, items = [], []
    valued = {name for option in COMMAND.options if option.value for name in option.names}
    left = list(argv)
    while left:
        word = left.pop(0)
        if word.startswith("-"):
            words.append(word)
            if word in valued:
                words += left[:1]
                del left[:1]
        else:
            items.append(word)
    given, _ = COMMAND.parse(words)
    if not items:
        raise BadUsage("warmfork doctor wants modules, or a file", "for example: warmfork doctor numpy")
    for item in items:
        if is_file(item):
            if len(items) > 1:
                raise BadUsage(f"{item} is a file, and more is named", "name one file, or modules")
            if not os.path.isfile(item):
                raise BadUsage(f"there is no file {item}", "is the path right?")
        elif not is_function(item) and not all(part.isidentifier() for part in item.split(".")):
            raise BadUsage(f'"{item}" is no name of a module, and no file', "for example: warmfork doctor numpy")
    return given, items


def is_file(item: str) -> bool:
    """Is this the path of a script, and no module's name?"""
    return item.endswith(".py") or "/" in item


def is_function(item: str) -> bool:
    """Does this name a function in a module?"""
    parts = item.split(":")
    return len(parts) == 2 and all(part.isidentifier() for name in parts for part in name.split("."))


def read_seconds(text: str | None) -> float | None:
    """Read --timeout. Raises BadUsage."""
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 86_400:
        raise BadUsage(f'--timeout is a number of seconds, not "{text}"', "for example --timeout 60")
    return seconds


class Progress:
    """A line on a terminal's stderr that says what is being done."""

    def __init__(self) -> None:
        self.on = sys.stderr is not None and sys.stderr.isatty()

    def say(self, what: str) -> None:
        """Say it, in place of what was said before."""
        if self.on:
            sys.stderr.write(f"\r\x1b[Kwarmfork doctor: {what} ...")
            sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self.on:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def show(found: dict[str, Any], as_json: bool) -> None:
    """Print what was found. Raises OSError."""
    if as_json:
        import json

        print(json.dumps(found, indent=2, allow_nan=False))
        return
    from warmfork.cli import prescription

    prescription.show(found)
