"""The errors: each names what failed, why, and what to do. `args` are the fields, so that they survive pickling."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from warmfork._words.outcome import Outcome


class WarmforkError(Exception):
    """Base of warmfork's errors."""


class PreloadError(WarmforkError):
    """A preload failed: which one, the cause in one line, and the traceback from the template."""

    def __init__(self, module: str, cause: str, traceback: str = "") -> None:
        super().__init__(module, cause, traceback)
        self.module: str = module
        self.cause: str = cause
        self.traceback: str = traceback

    def __str__(self) -> str:
        text = f'could not preload "{self.module}": {self.cause}'
        if self.traceback:
            text += f"\n\nIn the template:\n{self.traceback.rstrip()}"
        return f"{text}\nhint: take it off the preload list, or fix its import"


class AuditError(WarmforkError):
    """What the preload left behind makes forking unsafe."""

    def __init__(self, findings: tuple[str, ...]) -> None:
        super().__init__(findings)
        self.findings: tuple[str, ...] = findings

    def __str__(self) -> str:
        lines = "\n".join(f"  - {finding}" for finding in self.findings)
        return (
            f"the template is not safe to fork:\n{lines}\n"
            'hint: preload something else, or say audit="warn" where you know that it does no harm'
        )


HINTS = {
    "launch": "sys.executable, or what multiprocessing.set_executable() was given, must be a Python that can be run",
    "fork": "look at the limits of processes and memory: ulimit -u, ulimit -v, the cgroup's pids.max and memory.max",
    "rights": "this process has given up rights that its template's children have: start them before that",
    "look at rights": "/proc hides this process from its template (hidepid), since it is not dumpable, as after setuid(): "
    "become the other user before the interpreter starts (setpriv, systemd's User=), or mount /proc without hidepid",
    "socketpair": "raise the limit of open files (ulimit -n)",
    "pidfd_open": "raise the limit of open files (ulimit -n)",
    "recvmsg": "raise the limit of open files (ulimit -n)",
    "sendmsg": "raise the limit of open files (ulimit -n): too many are on their way between processes",
    "start_timeout": "give start_timeout more seconds, or None to wait for ever",
    "board": "a template has room for 32,768 children at a time: use another template for more",
}
"""What to do about a step that failed."""

FILES, MEMORY = HINTS["recvmsg"], HINTS["fork"]
SHORTAGES = {24: FILES, 23: FILES, 11: MEMORY, 12: MEMORY, 27: "raise the limit of the size of files (ulimit -f)"}
"""What to do where such a step failed for want of something: EMFILE, ENFILE, EAGAIN, ENOMEM, EFBIG."""


class StartError(WarmforkError, RuntimeError):
    """A process could not be started: the step that failed, and why. Nothing of it is left running.

    Where the kernel refused, it is an OSError as well, with its `errno` (EAGAIN, EMFILE).
    """

    def __new__(cls, *fields: object) -> StartError:
        """Make one; of the class below where there is an errno."""
        if issubclass(cls, OSError) or (cls is StartError and fields[2:] and fields[2]):
            return OSError.__new__(SystemStartError)
        return RuntimeError.__new__(cls)

    def __init__(self, step: str, cause: str, errno: int | None = None) -> None:
        super().__init__(step, cause)
        self.step: str = step
        self.cause: str = cause
        self.errno: int | None = errno
        self.args: tuple[Any, ...] = (step, cause, errno) if errno else (step, cause)

    def __str__(self) -> str:
        hint = HINTS.get(self.step)
        if self.step in ("launch", "feed", "look at rights"):
            hint = SHORTAGES.get(self.errno or 0, hint)
        return f"could not start a process: {self.step}: {self.cause}" + (f"\nhint: {hint}" if hint else "")


class SystemStartError(StartError, OSError):
    """A StartError for which the kernel gave a number."""

    def __reduce__(self) -> tuple[type[StartError], tuple[object, ...]]:
        return StartError, self.args


class TemplateDied(StartError):
    """The template keeps dying: so many generations in a row, and for half a minute there is no next one."""

    def __init__(self, deaths: int, seconds: int, outcome: object) -> None:
        super().__init__("template", f"it died {deaths} times within {seconds} s, the last time by {outcome}")
        self.args: tuple[Any, ...] = deaths, seconds, outcome
        self.deaths: int = deaths
        self.seconds: int = seconds
        self.outcome: object = outcome

    def __str__(self) -> str:
        return (
            f"could not start a process: the template died {self.deaths} times within {self.seconds} s, each time before "
            f"it had served a start; the last time: {self.outcome or 'it is not known how'}\n"
            "hint: see the log of warmfork.tracker for each death; take off the preload list what crashes, or raise the "
            "memory limit; it is tried again in half a minute"
        )


class Refused(WarmforkError, RuntimeError):
    """No process was started, for it would have rights that this process has not: in what the two differ."""

    def __init__(self, difference: str) -> None:
        super().__init__(difference)
        self.difference: str = difference

    def __str__(self) -> str:
        return (
            "no process was started: a child has the rights of its template, and this process has others by now\n"
            f"  {self.difference}\n"
            'hint: start processes before the change, or with multiprocessing.get_context("spawn"), whose children have '
            "what their parent has"
        )


class ChildError(WarmforkError):
    """The child ended without a result: its name and its outcome; `detail` is its traceback, stack or last word."""

    def __init__(self, name: str, outcome: Outcome, detail: str = "") -> None:
        super().__init__(name, outcome, detail)
        self.name: str = name
        self.outcome: Outcome = outcome
        self.detail: str = detail

    def __str__(self) -> str:
        code = getattr(self.outcome, "code", None)
        how = f"exit code {code}" if code is not None else str(self.outcome)
        if code is not None and "\n" not in self.detail.strip():
            how += ", by sys.exit() or os._exit()"
        text = f"{self.name} ended without a result: {how}"
        if not self.detail:
            return text
        if "\n" not in self.detail.strip():
            return f"{text}: {self.detail.strip()}"
        return f"{text}\n\nIn the child:\n{self.detail.rstrip()}"


class UnsupportedPlatform(WarmforkError):
    """warmfork cannot work here: what is missing."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what: str = what

    def __str__(self) -> str:
        return f'{self.what}\nhint: use multiprocessing.get_context("spawn") here'


class RemoteTraceback(Exception):
    """The cause of an exception that a child raised: the text of its traceback there, as concurrent.futures has it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text: str = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'


for _class in (
    WarmforkError, PreloadError, AuditError, StartError, SystemStartError, TemplateDied, Refused, ChildError,
    UnsupportedPlatform,
):  # fmt: skip
    _class.__module__ = "warmfork"
SystemStartError.__qualname__ = SystemStartError.__name__ = "StartError"
