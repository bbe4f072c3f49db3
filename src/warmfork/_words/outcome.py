"""What became of a child: exited, signaled, or lost. Never an invented number."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal


class Usage:
    """What a dead child used, as the kernel counted it: CPU seconds in user and system mode, peak memory in bytes (what
    it shares with its template counts, as in its RSS), and for how many seconds it ran, from the moment at which it was
    handed its call (None: nobody saw its end)."""

    __slots__ = ("peak_rss", "seconds", "system", "user")

    def __init__(self, user: float, system: float, peak_rss: int, seconds: float | None = None) -> None:
        self.user: float = user
        self.system: float = system
        self.peak_rss: int = peak_rss
        self.seconds: float | None = seconds

    def __repr__(self) -> str:
        return f"Usage(user={self.user}, system={self.system}, peak_rss={self.peak_rss}, seconds={self.seconds})"


class Ending:
    """Base of the three outcomes."""

    __slots__ = ()
    __match_args__: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and all(getattr(self, f) == getattr(other, f) for f in self.__match_args__)

    def __hash__(self) -> int:
        return hash((type(self), *(getattr(self, field) for field in self.__match_args__)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{f}={getattr(self, f)!r}' for f in self.__match_args__)})"


class Exited(Ending):
    """The child ended by itself, with this exit code (0 to 255)."""

    __slots__ = ("code",)
    __match_args__: tuple[Literal["code"]] = ("code",)

    def __init__(self, code: int) -> None:
        self.code: int = code

    @property
    def ok(self) -> bool:
        """Was the exit code 0?"""
        return self.code == 0

    @property
    def returncode(self) -> int:
        """The exit code, as subprocess and multiprocessing give it."""
        return self.code


class Signaled(Ending):
    """The child was ended by this signal. `core_dumped` as the kernel said it.

    The rest is evidence, and no part of what makes two outcomes equal. `stack` is the child's Python stack where a fault
    ended it (SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL), as faulthandler writes it. `why` says of a SIGKILL what is known:
    that memory ran out, or that it was not sent by us. Both are "" where there is nothing to say.
    """

    __slots__ = ("core_dumped", "signal", "stack", "why")
    __match_args__: tuple[Literal["signal"], Literal["core_dumped"]] = ("signal", "core_dumped")

    def __init__(self, signal: int, core_dumped: bool = False, stack: str = "", why: str = "") -> None:
        self.signal: int = signal
        self.core_dumped: bool = core_dumped
        self.stack: str = stack
        self.why: str = why

    def __repr__(self) -> str:
        return f"Signaled(signal={self.signal_name}, core_dumped={self.core_dumped})"

    def __str__(self) -> str:
        dumped = ", core dumped" if self.core_dumped else ""
        return f"killed by {self.signal_name}{dumped}" + (f" ({self.why})" if self.why else "")

    @property
    def signal_name(self) -> str:
        """The signal's name ("SIGSEGV"), or its number where it has none."""
        return name_signal(self.signal)

    @property
    def ok(self) -> bool:
        """False: it did not end by itself."""
        return False

    @property
    def returncode(self) -> int:
        """The signal's number, negative, as subprocess and multiprocessing give it."""
        return -self.signal


class Lost(Ending):
    """The child is dead, and nobody can say how: `reason` tells why not."""

    __slots__ = ("reason",)
    __match_args__: tuple[Literal["reason"]] = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason: str = reason

    @property
    def ok(self) -> bool:
        """False: nobody knows."""
        return False

    @property
    def returncode(self) -> None:
        """None: nobody knows, and no number is invented."""
        return


Outcome = Exited | Signaled | Lost
"""What Child.wait() gives."""

for _class in (Usage, Exited, Signaled, Lost):
    _class.__module__ = "warmfork"


def name_signal(number: int) -> str:
    """Give a signal's name, or its number as text where it has none."""
    import _signal

    name: str
    for name, value in vars(_signal).items():
        if value == number and name.startswith("SIG") and not name.startswith(("SIG_", "SIGRTM")):
            return ALIASES.get(name, name)
    return str(number)


ALIASES = {"SIGIOT": "SIGABRT", "SIGCLD": "SIGCHLD", "SIGPOLL": "SIGIO"}
"""Second names of a signal, and the one that people know."""


def read_status(status: int, stack: str = "", why: str = "") -> Exited | Signaled:
    """Give the outcome for a status as waitpid() gives it (wait(2)), with what else is known of a death by signal."""
    if status & 0x7F == 0:
        return Exited((status >> 8) & 0xFF)
    return Signaled(status & 0x7F, bool(status & 0x80), stack, why)
