"""Programs and ways to run them, for the tests of `warmfork run` and of the start-up hook."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

DEADLINE = 60.0

# Everything about itself that a program can see, written to the file that $REPORT names. It stands
# alone, so that it can be a file, a module, the code of -c, and stdin.
PROBE = """\
import json, os, signal, sys
def name(handler):
    # A function, method or class by its name, an enum by its repr, an object by its type: no addresses.
    return getattr(handler, "__qualname__", repr(handler)).partition(" object at ")[0]
def see(main):
    spec = main.get("__spec__")
    return {
        "argv": sys.argv, "orig_argv": sys.orig_argv, "path": sys.path, "flags": repr(sys.flags),
        "xoptions": sys._xoptions, "warnoptions": sys.warnoptions, "executable": sys.executable, "prefix": sys.prefix,
        "name": main["__name__"], "file": main.get("__file__"), "package": main.get("__package__"),
        "spec": [spec.name, spec.origin] if spec else ["__spec__" in main, None],
        "loader": repr(type(main.get("__loader__"))), "doc": main.get("__doc__"), "cached": main.get("__cached__"),
        "environ": {k: v for k, v in os.environ.items() if k not in ("REPORT", "WARMFORK_RUN", "WARMFORK_PRELOAD")},
        "cwd": os.getcwd(), "umask": os.umask(os.umask(0o22)), "group": os.getpgrp() == os.getpid(),
        "tty": [os.isatty(fd) for fd in (0, 1, 2)], "fds": sorted(os.listdir("/proc/self/fd")),
        "encodings": [sys.stdin.encoding, sys.stdout.encoding, sys.getfilesystemencoding()],
        "signals": {number: name(signal.getsignal(number)) for number in signal.valid_signals()},
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "modules": sorted(name for name in sys.modules if name.partition(".")[0] not in ("warmfork", "__future__")),
        "finders": [name(finder) for finder in sys.meta_path if type(finder).__module__ != "warmfork.mp.shared.watching"],
        "pid": os.getpid(), "parent": os.getppid(), "hooks": len(sys.meta_path),
        "ours": sorted(name for name in sys.modules if name.partition(".")[0] == "warmfork"),
        "variables": [os.environ.get("WARMFORK_RUN"), os.environ.get("WARMFORK_PRELOAD")],
    }
with open(os.environ["REPORT"], "w") as report:
    json.dump(see(globals()), report)
print("hello from", __name__)
"""
# What must differ between `python FORM` and `warmfork run FORM`; all else must be equal.
OURS = ("pid", "hooks", "ours", "variables")


@dataclass(frozen=True)
class Form:
    """One way to name a program on python's command line."""

    name: str
    words: tuple[str, ...]
    stdin: str = ""
    outer: tuple[str, ...] = ()  # options of the interpreter that runs warmfork; python gets them before `words`
    environ: dict[str, str] = field(default_factory=dict)
    reports: bool = True
    merged: bool = False  # -Im comes out as -I -m: the same to python, another sys.orig_argv


FORMS = [
    Form("file", ("probe.py",)),
    Form("file_dot_slash", ("./probe.py", "one")),
    Form("file_absolute", ("{folder}/probe.py",)),
    Form("file_with_arguments", ("probe.py", "--", "-x", "--preload", "m", "-m", "y", "")),
    Form("file_after_dashes", ("--", "probe.py", "-O")),
    Form("module", ("-m", "probe", "-m", "b")),
    Form("module_merged", ("-mprobe",)),
    Form("package", ("-m", "package")),
    Form("package_module", ("-m", "package.inner")),
    Form("directory", ("directory", "a")),
    Form("zip", ("app.zip", "a")),
    Form("code", ("-c", PROBE, "-c", "arg")),
    Form("code_merged", ("-c" + PROBE,)),
    Form("stdin", (), PROBE),
    Form("stdin_dash", ("-", "one", "-two"), PROBE),
    Form("interactive_code", ("-i", "-c", PROBE), "print(6 * 7)\n"),
    Form("pdb", ("-m", "pdb", "probe.py", "a"), "continue\nquit\n"),
    Form("profile", ("-m", "cProfile", "-o", "/dev/null", "probe.py")),
    Form("isolated", ("-I", "probe.py")),
    Form("isolated_module", ("-Im", "cProfile", "-o", "/dev/null", "probe.py"), merged=True),
    Form("safe_path", ("-P", "probe.py")),
    Form("optimized_merged", ("-OOc", PROBE), merged=True),
    Form("no_environment", ("-E", "-s", "-B", "-u", "probe.py")),
    Form("x_and_w", ("-X", "utf8", "-Xdev", "-W", "ignore", "-Wdefault::UserWarning", "-bb", "probe.py")),
    Form("hash_based", ("--check-hash-based-pycs", "always", "probe.py")),
    Form("outer_options", ("probe.py",), outer=("-X", "dev", "-Werror", "-OO", "-P")),
    Form("outer_merged", ("probe.py", "a"), outer=("-bI",)),
    Form("outer_and_inner", ("-O", "-c", PROBE), outer=("-O", "-s")),
    Form("c_locale", ("probe.py",), environ={"LC_ALL": "", "LANG": "", "LC_CTYPE": ""}),
    Form("c_locale_asked_for", ("probe.py",), environ={"LC_ALL": "", "LANG": "", "LC_CTYPE": "C.UTF-8"}),
    Form("exit_code", ("-c", "import sys; sys.exit(3)"), reports=False),
    Form("exit_text", ("-c", "import sys; sys.exit('gone')"), reports=False),
    Form("exception", ("raises.py",), reports=False),
    Form("killed", ("-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"), reports=False),
    Form("interrupted", ("-c", "import signal; signal.raise_signal(signal.SIGINT)"), reports=False),
    Form("no_such_file", ("nowhere.py",), reports=False),
    Form("no_such_module", ("-m", "nowhere"), reports=False),
    Form("no_code", ("-c",), reports=False),
    Form("no_such_letter", ("-Z", "probe.py"), reports=False),
]


def make_programs(folder: Path) -> None:
    """Lay out what FORMS names."""
    for place in (
        "probe.py",
        "package/__init__.py",
        "package/__main__.py",
        "package/inner.py",
        "directory/__main__.py",
    ):
        path = folder / place
        path.parent.mkdir(exist_ok=True)
        path.write_text("" if place == "package/__init__.py" else PROBE)
    (folder / "raises.py").write_text("def f():\n    raise ValueError('on purpose')\n\nf()\n")
    with zipfile.ZipFile(folder / "app.zip", "w") as archive:
        archive.writestr("__main__.py", PROBE)


@cache
def list_pythons() -> list[str]:
    """The interpreter that runs the tests; with WARMFORK_TEST_PYTHONS=all, one of each version found."""
    if os.environ.get("WARMFORK_TEST_PYTHONS") != "all":
        return [sys.executable]
    from tests.conformance.interpreters import find_interpreters, prepare_environment

    return [prepare_environment(interpreter, "warmfork") for interpreter in find_interpreters()]


def name_python(path: str) -> str:
    """A word for test ids: the virtual environment's folder."""
    return Path(path).parents[1].name.lstrip(".")


def make_environment(**changes: str) -> dict[str, str]:
    """This process's own without what would change the comparison; an empty value takes a variable out."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("WARMFORK_", "PYTEST_", "PYTHON"))}
    kept.update(changes)
    return {k: v for k, v in kept.items() if v}


def run(
    command: list[str], stdin: str = "", cwd: Path | None = None, **changes: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
        cwd=cwd,
        env=make_environment(**changes),
    )


class Terminal:
    """A program on a terminal of its own, as its controlling one."""

    def __init__(self, command: list[str], cwd: Path, **changes: str) -> None:
        self.master, slave = pty.openpty()
        # The shell leads a new session and has no terminal yet, so the first that it opens is its own.
        opener = 'tty=$1; shift; exec "$@" <>"$tty" >&0 2>&1'
        self.process = subprocess.Popen(
            ["sh", "-c", opener, "sh", os.ttyname(slave), *command],
            start_new_session=True,
            cwd=cwd,
            env=make_environment(**changes),
        )
        self.slave = slave  # held, or reads fail between our open and the program's
        self.seen = b""

    def interrupt(self) -> None:
        """Press ^C at the prompt until it is taken: CPython takes it when it waits for a line, and not in the moment
        before, between the prompt and the wait."""
        self.seen = b""
        deadline = time.monotonic() + DEADLINE
        while b"KeyboardInterrupt" not in self.seen:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no KeyboardInterrupt in {DEADLINE} s, but this: {self.seen!r}")
            self.write(b"\x03")
            if select.select([self.master], [], [], 0.5)[0]:
                self.seen += os.read(self.master, 65_536)
        self.read_until(b">>> ")

    def read_until(self, text: bytes) -> None:
        deadline = time.monotonic() + DEADLINE
        while text not in self.seen:
            ready, _, _ = select.select([self.master], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError(f"{text!r} did not come in {DEADLINE} s, but this did: {self.seen!r}")
            self.seen += os.read(self.master, 65536)

    def write(self, text: bytes) -> None:
        os.write(self.master, text)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE)
        os.close(self.master)
        os.close(self.slave)

    def finish(self) -> tuple[int, bytes]:
        """The exit code, and all that was on the screen."""
        code = self.process.wait(DEADLINE)
        while select.select([self.master], [], [], 0)[0]:
            self.seen += os.read(self.master, 65536)
        return code, self.seen
