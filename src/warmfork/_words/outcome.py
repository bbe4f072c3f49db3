"""What became of a child: exited, signaled, or lost. Never an invented number."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias


class Usage:
    """What a dead child used, as the kernel counted it: CPU seconds in user and system mode, peak memory in bytes (what
    it shares with its template counts, as in its RSS), and for how many seconds it ran, from the moment at which it was
    handed its call (None: nobody saw its end)."""

    __slots__ = ("peak_rss", "seconds", "system", "user")

    def __init__(self, user: float, system: float, peak_rss: int, seconds: float | None = None) -> None:
        self.user, self.system, self.peak_rss, self.seconds = user, system, peak_rss, seconds

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
    __match_args__ = ("code",)

    def __init__(self, code: int) -> None:
        self.code = code


class Signaled(Ending):
    """The child was ended by this signal. `core_dumped` as the kernel said it.

    The rest is evidence, and no part of what makes two outcomes equal. `stack` is the child's Python stack where a fault
    ended it (SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL), as faulthandler writes it. `why` says of a SIGKILL what is known:
    that memory ran out, or that it was not sent by us. Both are "" where there is nothing to say.
    """

    __slots__ = ("core_dumped", "signal", "stack", "why")
    __match_args__ = ("signal", "core_dumped")

    def __init__(self, signal: int, core_dumped: bool = False, stack: str = "", why: str = "") -> None:
        self.signal, self.core_dumped, self.stack, self.why = signal, core_dumped, stack, why

    def __str__(self) -> str:
        return f"{self!r} ({self.why})" if self.why else repr(self)


class Lost(Ending):
    """The child is dead, and nobody can say how: `reason` tells why not."""

    __slots__ = ("reason",)
    __match_args__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason


Outcome: TypeAlias = "Exited | Signaled | Lost"


def read_status(status: int, stack: str = "", why: str = "") -> Exited | Signaled:
    """Give the outcome for a status as waitpid() gives it (wait(2)), with what else is known of a death by signal."""
    if status & 0x7F == 0:
        return Exited((status >> 8) & 0xFF)
    return Signaled(status & 0x7F, bool(status & 0x80), stack, why)
