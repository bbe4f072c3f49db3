"""What run() gives: the result as data, the output, and what the kernel says of the process."""

from __future__ import annotations

from warmfork._tasks import values
from warmfork._tasks.frames import DATA, PICKLE, REFUSED
from warmfork._words.errors import WarmforkError
from warmfork._words.generic import Generic
from warmfork._words.outcome import Exited

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from typing_extensions import TypeVar

    from warmfork._words.outcome import Outcome

    T_co = TypeVar("T_co", covariant=True, default=Any)


class Failure:
    """The exception that ended a snippet, as data: `type`, `message` and `traceback` are text, and what the child said."""

    __slots__ = ("message", "traceback", "type")

    def __init__(self, type: str, message: str, traceback: str) -> None:
        self.type: str = type
        self.message: str = message
        self.traceback: str = traceback

    def __repr__(self) -> str:
        return f"Failure({self.type}: {self.message})"


class ResultError(WarmforkError):
    """There is no result to be had: it is no data, or the process ended without one."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why: str = why

    def __str__(self) -> str:
        return f"no result: {self.why}"


class RunError(WarmforkError):
    """With check=True: what was run failed. `completed` is all that run() would have given."""

    def __init__(self, name: str, completed: Completed[Any]) -> None:
        super().__init__(name, completed)
        self.name: str = name
        self.completed: Completed[Any] = completed

    def __str__(self) -> str:
        error, outcome = self.completed.error, self.completed.outcome
        text = f"{self.name} failed: {outcome if outcome is not None else 'the session lives on'}"
        return f"{text}\n\nIn the child:\n{error.traceback.rstrip()}" if error is not None else text


class Completed(Generic["T_co"]):
    """What became of something that was run.

    Attributes:
        outcome: Exited, Signaled or Lost, as the kernel says it. None: a session, which lives on.
        stdout, stderr: what was captured (None where nothing was): bytes, or text where that was asked for.
        dropped: bytes of output that came beyond what is kept, and are not in it.
        error: the exception that ended it (Failure), or None. What the child says.
        duration: seconds, from the moment at which it had its code to its end.
        peak_memory: bytes, at most, what it shares with its template included; None in a session.
        cpu: seconds of processor time; None in a session.
    """

    def __init__(
        self,
        outcome: Outcome | None,
        stdout: Any,
        stderr: Any,
        dropped: int,
        duration: float,
        peak_memory: int | None,
        cpu: float | None,
        reply: Any,  # a Reply, and no concern of users, who make none of these
        trust: bool,
        failure: Failure | None = None,
    ) -> None:
        self.outcome: Outcome | None = outcome
        self.stdout = stdout
        self.stderr = stderr
        self.dropped = dropped
        self.duration = duration
        self.peak_memory = peak_memory
        self.cpu = cpu
        self.error: Failure | None = failure
        if failure is None and reply is not None and reply.error is not None:
            self.error = Failure(*reply.error)
        self._kind: bytes = reply.kind if reply is not None else b""
        self._content: bytes = reply.content if reply is not None else b""
        self._trust = trust
        self._result: list[Any] = []

    def __repr__(self) -> str:
        said = f" {self.error!r}" if self.error is not None else ""
        return f"<Completed {self.outcome}{said} in {self.duration:.3f} s>"

    @property
    def result(self) -> T_co:
        """The value of the last expression, or of the variable `result`, or what the function returned.

        It is read when it is first asked for. Raises ResultError where there is none: it is no data (say trust=True to
        have it pickled, where you trust the code), or the child ended before it gave one.
        """
        if not self._result:
            self._result.append(self._read())
        value: T_co = self._result[0]
        return value

    def _read(self) -> Any:
        if self.error is not None:
            raise ResultError(f"it failed: {self.error.type}: {self.error.message}")
        if self._kind == PICKLE and self._trust:
            from pickle import loads

            return loads(self._content)
        if self._kind == DATA:
            try:
                return values.decode(self._content)
            except ValueError as error:
                raise ResultError(f"what the child sent is no data: {error}") from None
        if self._kind == REFUSED:
            why = self._content.decode("utf-8", "replace")
            raise ResultError(why if self._trust else f"{why}\nhint: have it return data, or say trust=True")
        raise ResultError(f"it ended without one: {self.outcome}")

    def ok(self) -> bool:
        """Did it end well, as the kernel says, and without an exception, as the child says?"""
        return self.outcome in (None, Exited(0)) and self.error is None
