"""The `warmfork` command: one table of commands, each imported when it is called.

`warmfork run` pays for what is imported here before the program starts, so nothing is.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from warmfork.cli.command import Command

# command -> what it does; the module of its name has COMMAND, and main(words) -> exit code
COMMANDS = {
    "run": "run a Python program with warmfork as its forkserver",
    "ps": "list your templates, children and trackers",
    "top": "the same, live",
    "doctor": "say what modules do to a template and its children",
    "preload": "show or forget what was learnt to preload for a program",
    "completion": "print a completion script for bash, zsh or fish",
}


def load(name: str) -> tuple[Command, Callable[[list[str]], int]]:
    """Give a command and the function that does it."""
    __import__(f"warmfork.cli.{name}")
    module = sys.modules[f"warmfork.cli.{name}"]
    return module.COMMAND, module.main


def main(argv: list[str] | None = None) -> int:
    """Do what the words say. Gives the exit code: 0, 2 for a wrong call, 1 where the output can't be written."""
    words = sys.argv[1:] if argv is None else argv
    try:
        code = dispatch(words)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:  # `| head`: the reader has what it wants
        drop_output()
        return 0
    except OSError as error:
        drop_output()
        fail(f"could not write the output: {error.strerror or error}", "is the disk full?")
        return 1
    return code


def drop_output() -> None:
    """Have what is still in the buffer go nowhere: the interpreter writes it once more at its end, which fails as well."""
    import os

    from warmfork._machine import fds

    with fds.Fd(fds.open_null()) as null:
        os.dup2(null.fileno(), sys.stdout.fileno())


def dispatch(words: list[str]) -> int:
    """Call the command. Gives its exit code."""
    name = words[0] if words else "--help"
    if name in COMMANDS:
        from warmfork.cli.command import BadUsage

        command, do = load(name)
        try:
            if name != "run" and {"-h", "--help"} & {*words}:
                print(command.help())
                return 0
            return do(words[1:])
        except BadUsage as error:
            return fail(*error.args)
    if name in ("-h", "--help", "help"):
        print(describe())
        return 0
    if name in ("-V", "--version"):
        from warmfork import __version__

        print(f"warmfork {__version__}")
        return 0
    return fail(f'there is no command "{name}"', f"the commands are {', '.join(COMMANDS)}; see warmfork --help")


def describe() -> str:
    """Give what `warmfork --help` prints."""
    rows = "\n".join(f"  {name:<12}{purpose}" for name, purpose in COMMANDS.items())
    return f"""\
usage: warmfork COMMAND ...

Starts Python processes fast: one process imports what your program needs, once,
and every process that you start is a fork of it.

{rows}

  warmfork COMMAND --help   what a command takes, with examples
  warmfork --version"""


def fail(what: str, hint: str) -> int:
    """The error of every command that was called wrongly, and its exit code."""
    print(f"warmfork: {what}\nhint: {hint}", file=sys.stderr)
    return 2
