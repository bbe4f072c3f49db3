"""`warmfork run`: sets a few variables and becomes the plain interpreter.

Exec and not runpy: the program gets the pid, argv, __main__, exit code, signals, terminal and
stdio that `python` would have given it because it is `python`. warmfork comes in through the
start-up hook in site-packages, in this program and in the Python programs that it starts.
"""

from __future__ import annotations

import os
import sys

from warmfork.cli import fail
from warmfork.cli.command import BadUsage, Command, Option

PRELOAD = Option(
    "--preload",
    'import module M once, in the template, before anything is forked; "M:F" also calls F there. It may be given more '
    "than once, or as a list with commas; auto: what the program's children have imported in earlier runs",
    "M",
    variable="WARMFORK_PRELOAD",
)
COMMAND = Command(
    "run",
    "[OPTIONS] [PYTHON OPTIONS] (FILE | -m MOD | -c CODE | -) [ARGS]...",
    """
    Runs a Python program with warmfork as its forkserver. What the program starts with multiprocessing or
    concurrent.futures is then started by warmfork, unless the program asks for "fork" or "spawn" by name. The program
    itself is not changed, and neither are its pid, arguments, exit code, signals, terminal and stdio. The Python
    programs that it starts are covered as well.

    Options that are not in this list are python's own, as in `python -X dev FILE`. For python's -v set
    PYTHONVERBOSE=1. The program's own options come after it.

    The same without the command: set WARMFORK_RUN=1 for plain `python`, and the variable of an option for the option.
    """,
    [
        PRELOAD,
        Option(
            "--keep-default",
            'leave the default start method: warmfork serves only those who ask for "forkserver". Without it, forkserver '
            "is the default also before Python 3.14, unless the program sets another",
            variable="WARMFORK_KEEP_DEFAULT",
        ),
        Option("-v, --verbose", "say at the end, on stderr, what was started by whom", variable="WARMFORK_REPORT"),
        Option("--name", "what `warmfork ps` and the logs call the template", "NAME", variable="WARMFORK_NAME"),
        Option(
            "--orphans",
            "what becomes of children whose program dies",
            "WHAT",
            ("kill", "keep"),
            variable="WARMFORK_ORPHANS",
        ),
        Option(
            "--audit",
            "what happens where a preload leaves threads or locks behind",
            "WHAT",
            ("refuse", "warn", "off"),
            variable="WARMFORK_AUDIT",
        ),
        Option(
            "--spares",
            "how many children are forked ahead: auto, or 0 to 64",
            "N",
            ("auto", *map(str, range(65))),
            variable="WARMFORK_SPARES",
        ),
        Option(
            "--on-preload-error",
            "what happens where a preload fails",
            "WHAT",
            ("raise", "warn"),
            variable="WARMFORK_ON_PRELOAD_ERROR",
        ),
        Option(
            "--start-timeout", "how long a template may take to preload", "SECONDS", variable="WARMFORK_START_TIMEOUT"
        ),
        Option(
            "--huge-pages",
            "whether the template's memory is put into huge pages",
            "WHAT",
            ("auto", "on", "off"),
            variable="WARMFORK_HUGE_PAGES",
        ),
    ],
    [
        ("warmfork run app.py --verbose", "the program's own --verbose"),
        ("warmfork run -v app.py", "says at the end how many processes warmfork has started"),
        ("warmfork run --preload numpy --preload app.models:load -m app serve", "with numpy and a model loaded once"),
        ("warmfork run -m pytest -n 4", "the tests of a project"),
    ],
    [
        ("2", 'a wrong call of warmfork; its message begins with "warmfork: "'),
        ("any other", "the program's own, as from `python`; a signal that ends it ends it as always"),
    ],
)

HOOK = "warmfork_startup.pth"


class CommandLine:
    """Words taken apart as python's getopt does it: options, then the program and its arguments.

    `letters` are the single-letter options without their values. The options of COMMAND may stand
    among them; `variables` are those that they set. What is wrong with python's own options is left to python to say.
    Raises BadUsage.
    """

    def __init__(self, words: list[str]) -> None:
        self.preload: list[str] = []
        self.variables: dict[str, str] = {}
        self.options: list[str] = []
        self.letters: set[str] = set()
        self.program = list(words)
        while self.program and self.program[0].startswith("-") and self.program[0] not in ("-", "--"):
            word = self.program[0]
            if word.startswith("--") or word == "-v":
                self.take_long(word)
            elif self.take_letters(word):
                return

    def take_long(self, word: str) -> None:
        """Take an option of ours, or one of python's two long ones."""
        name, equals, value = word.partition("=")
        if name == "--check-hash-based-pycs":
            self.move(2)
            return
        if name == "--help":
            self.letters.add("h")
            self.move(1)
            return
        option = find_option(name)
        if not option.value:
            if equals:
                raise BadUsage(f"{name} takes no value", f"write {name} alone")
            self.variables[option.variable] = "1"
            del self.program[0]
            return
        if not equals:
            value = "".join(self.program[1:2])
        del self.program[: 1 if equals else 2]
        if option is PRELOAD:
            self.preload += [check_module(module) for module in value.split(",")]
        else:
            self.variables[option.variable] = check_value(option, value)

    def take_letters(self, word: str) -> bool:
        """Take a word of python's options. Gives whether it names the program, perhaps after other letters: -Im mod."""
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
        """Leave words to python."""
        self.options += self.program[:count]
        del self.program[:count]


def main(argv: list[str]) -> int:
    """Become the program. Gives an exit code where that can't be, or where help is wanted. Raises BadUsage."""
    if sys.platform != "linux":
        return fail(f"warmfork run needs Linux, and this is {sys.platform}", "run the program with python itself")
    ours = CommandLine(sys.orig_argv[1:])
    line = CommandLine(argv)
    if line.letters & {"h", "?"}:
        print(COMMAND.help())
        return 0
    if not line.program and not line.letters & {"i", "V"} and is_terminal():
        return miss_program(line.preload)
    require_hook(ours.letters | line.letters)
    command = [sys.executable, *ours.options, *line.options, *line.program]
    try:
        os.execve(sys.executable, command, make_environment(line))
    except OSError as error:
        return fail(
            f"could not execute the interpreter {sys.executable!r}: {error.strerror}",
            "check that it is still there; sys.executable must name it",
        )


def is_terminal() -> bool:
    """Would python open its prompt for want of a program?"""
    try:
        return os.isatty(0)
    except OSError:
        return False


def miss_program(preload: list[str]) -> int:
    """No program is named. Gives the exit code."""
    if preload:
        return fail(
            "no program is named: which FILE is to be run?",
            f"--preload has taken {preload[-1]}; where that is the program, leave out --preload",
        )
    print(COMMAND.help())
    return 2


def find_option(name: str) -> Option:
    """Give the option of this name. Raises BadUsage."""
    for option in COMMAND.options:
        if name in option.names:
            return option
    raise BadUsage(f'there is no option "{name}"', "see warmfork run --help; the program's own come after it")


def check_value(option: Option, value: str) -> str:
    """Give the value of an option. Raises BadUsage."""
    name = option.names[-1]
    if not value.strip():
        raise BadUsage(f"{name} needs a value: {option.describe()}", option.meaning)
    if option.variable == "WARMFORK_SPARES" and value not in option.choices:
        raise BadUsage(f'{name} is auto or a number from 0 to 64, not "{value}"', f"for example {name} 4")
    if option.variable == "WARMFORK_START_TIMEOUT":
        try:
            seconds = float(value)
        except ValueError:
            seconds = 0.0
        if not 0 < seconds < float("inf"):
            raise BadUsage(f'{name} is a number of seconds, not "{value}"', f"for example {name} 300")
    return option.check(value)


def check_module(name: str) -> str:
    """A module, or module:function; whether it exists is for the template to find out."""
    name = name.strip()
    if name.endswith(".py") or "/" in name or name in ("-m", "-c", "-"):
        raise BadUsage(
            f'--preload wants a module, and "{name}" is {"an option" if name.startswith("-") else "a file"}',
            "the program comes after the options, as in: warmfork run --preload numpy app.py",
        )
    if all(part.isidentifier() for part in name.replace(":", ".", 1).split(".")):
        return name
    raise BadUsage(f'--preload wants a module or module:function, not "{name}"', "for example --preload numpy")


def require_hook(letters: set[str]) -> None:
    """Without the start-up hook the program would run on the stdlib's forkserver and not say so. Raises BadUsage."""
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


def make_environment(line: CommandLine) -> dict[str, str]:
    """Give the program's environment."""
    environment = {**os.environ, "WARMFORK_RUN": "1", **line.variables}
    if "WARMFORK_REPORT" in line.variables:
        environment["WARMFORK_REPORT"] = str(os.getpid())  # so it knows itself: the programs that it starts differ
    preload = line.preload
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
