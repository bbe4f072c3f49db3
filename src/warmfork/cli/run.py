"""`warmfork run`: sets two variables and becomes the plain interpreter.

Exec and not runpy: the program gets the pid, argv, __main__, exit code, signals, terminal and
stdio that `python` would have given it because it is `python`. warmfork comes in through the
start-up hook in site-packages, in this program and in the Python programs that it starts.
"""

from __future__ import annotations

import os
import sys

from warmfork.cli import fail

USAGE = """\
usage: warmfork run [--preload M]... [PYTHON OPTIONS] (FILE | -m MOD | -c CODE | -) [ARGS]...

Runs a Python program with warmfork in the place of multiprocessing's "forkserver". The program
itself is not changed, and neither are pid, arguments, exit code, signals, terminal and stdio.
Python programs that it starts are covered as well.

  --preload M     import module M once, in the template, before anything is forked; "M:F" also
                  calls F there. May be given more than once, or as a comma-separated list.
  -X, -W, -O ...  are python's own, as in `python -X dev FILE`

  warmfork run app.py --verbose
  warmfork run --preload numpy --preload app.models:load -m app serve
  warmfork run -c 'import multiprocessing as mp; print(mp.get_context("forkserver"))'

The same without the command: set WARMFORK_RUN=1 and WARMFORK_PRELOAD=M,... for plain `python`."""

HOOK = "warmfork_startup.pth"


class BadUsage(Exception):
    """What is wrong, and what to do."""


class CommandLine:
    """Words taken apart as python's getopt does it: options, then the program and its arguments.

    `letters` are the single-letter options without their values. `--preload M` is ours and may
    stand among them. What is wrong with python's own options is left to python to say.
    """

    def __init__(self, words: list[str]) -> None:
        self.preload: list[str] = []
        self.options: list[str] = []
        self.letters: set[str] = set()
        self.program = list(words)
        while self.program and self.program[0].startswith("-") and self.program[0] not in ("-", "--"):
            word = self.program[0]
            if word.startswith("--"):
                self.take_long(word)
            elif self.take_letters(word):
                return

    def take_long(self, word: str) -> None:
        name, equals, value = word.partition("=")
        if name == "--preload":
            if not equals:
                value = "".join(self.program[1:2])
            self.preload += [check_module(module) for module in value.split(",")]
            del self.program[: 1 if equals else 2]
        elif word == "--check-hash-based-pycs":
            self.move(2)
        elif word == "--help":
            self.letters.add("h")
            self.move(1)
        else:
            raise BadUsage(f'there is no option "{word}"', "see warmfork run --help; the program's own come after it")

    def take_letters(self, word: str) -> bool:
        """Whether this word names the program, perhaps after other letters: -Im mod, -OOc code."""
        end = next((place for place, letter in enumerate(word) if letter in "cmWX"), len(word))
        self.letters.update(word[1:end])
        if word[end : end + 1] in ("c", "m"):
            if end > 1:
                self.options.append(word[:end])
                self.program[0] = "-" + word[end:]
            return True
        self.move(2 if end == len(word) - 1 else 1)
        return False

    def move(self, count: int) -> None:
        self.options += self.program[:count]
        del self.program[:count]


def main(argv: list[str]) -> int:
    if sys.platform != "linux":
        return fail(f"warmfork run needs Linux, and this is {sys.platform}", "run the program with python itself")
    try:
        ours = CommandLine(sys.orig_argv[1:])
        line = CommandLine(argv)
        if line.letters & {"h", "?"}:
            print(USAGE)
            return 0
        require_hook(ours.letters | line.letters)
        command = [sys.executable, *ours.options, *line.options, *line.program]
        os.execve(sys.executable, command, make_environment(line.preload))
    except BadUsage as error:
        what, hint = error.args
        return fail(what, hint)
    except OSError as error:
        return fail(
            f"could not execute the interpreter {sys.executable!r}: {error.strerror}",
            "check that it is still there; sys.executable must name it",
        )


def check_module(name: str) -> str:
    """A module, or module:function; whether it exists is for the template to find out."""
    name = name.strip()
    if all(part.isidentifier() for part in name.replace(":", ".", 1).split(".")):
        return name
    raise BadUsage(f'--preload wants a module or module:function, not "{name}"', "for example --preload numpy")


def require_hook(letters: set[str]) -> None:
    """Without the start-up hook the program would run on the stdlib's forkserver and not say so."""
    if "S" in letters:
        raise BadUsage("python -S runs no start-up hooks, so warmfork would not be there", "leave -S out")
    import site

    folders = site.getsitepackages()
    if site.ENABLE_USER_SITE and not letters & {"I", "s"}:
        folders.append(site.getusersitepackages())
    if not any(os.path.exists(os.path.join(folder, HOOK)) for folder in folders):
        raise BadUsage(
            f"{sys.executable} does not have warmfork's start-up hook: no {HOOK} in {', '.join(folders)}",
            f"install warmfork there ({sys.executable} -m pip install warmfork); PYTHONPATH alone is not enough",
        )


def make_environment(preload: list[str]) -> dict[str, str]:
    environment = dict(os.environ)
    environment["WARMFORK_RUN"] = "1"
    known = [name.strip() for name in environment.get("WARMFORK_PRELOAD", "").split(",") if name.strip()]
    if preload:
        environment["WARMFORK_PRELOAD"] = ",".join(dict.fromkeys(known + preload))
    # In the C locale the interpreter that we are has set LC_CTYPE for itself and its children
    # (PEP 538). The one that we become must find the locale that we found: else it takes a UTF-8
    # locale for the user's choice, and leaves UTF-8 mode off.
    if environment.get("LC_CTYPE") in ("C.UTF-8", "C.utf8", "UTF-8"):
        with open("/proc/self/environ", "rb") as found:
            if not any(entry.startswith(b"LC_CTYPE=") for entry in found.read().split(b"\0")):
                del environment["LC_CTYPE"]
    return environment
