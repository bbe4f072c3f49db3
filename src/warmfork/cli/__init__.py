"""The `warmfork` command: one table of commands, each imported when it is called.

`warmfork run` pays for what is imported here before the program starts, so nothing is.
"""

from __future__ import annotations

import sys

# command -> (module with `main(argv) -> exit code`, what it does)
COMMANDS = {
    "run": ("warmfork.cli.run", "run a Python program with warmfork as its forkserver"),
    "ps": ("warmfork.cli.ps", "list your templates, children and trackers"),
}


def main(argv: list[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else argv
    command = words[0] if words else "--help"
    if command in COMMANDS:
        module, _ = COMMANDS[command]
        __import__(module)
        code: int = sys.modules[module].main(words[1:])
        return code
    if command in ("-h", "--help", "help"):
        print(describe())
        return 0
    if command in ("-V", "--version"):
        from importlib.metadata import version

        print(f"warmfork {version('warmfork')}")
        return 0
    return fail(f'there is no command "{command}"', f"the commands are {', '.join(COMMANDS)}; see warmfork --help")


def describe() -> str:
    rows = "\n".join(f"  {name:<6}{purpose}" for name, (_, purpose) in COMMANDS.items())
    return f"""\
usage: warmfork COMMAND ...

A forkserver for Python: one warm, quiet process, and every process you start is a fork of it.

{rows}

  warmfork COMMAND --help   what a command takes
  warmfork --version"""


def fail(what: str, hint: str) -> int:
    """The error of every command that was called wrongly, and its exit code."""
    print(f"warmfork: {what}\nhint: {hint}", file=sys.stderr)
    return 2
