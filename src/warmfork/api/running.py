"""run() and arun(): start a child for one function or one piece of code, wait for its end, and give what came of it."""

from __future__ import annotations

import os
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socketpair
from itertools import count
from math import ceil
from select import POLLIN, POLLOUT, poll
from time import monotonic

from warmfork._client.feeding import Payload
from warmfork._machine import fds, sockets
from warmfork._tasks import frames as words
from warmfork._words import messages
from warmfork._words.buffers import run as run_pickler
from warmfork._words.outcome import Signaled
from warmfork.api import payload as payload_
from warmfork.api.arguments import check_arguments
from warmfork.api.completed import Completed, Failure, RunError
from warmfork.api.limits import Limits, make_error, read_rlimits
from warmfork.api.options import check_name
from warmfork.api.streams import PIPE, Streams
from warmfork.api.watching import Watched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Literal, TypedDict

    from warmfork._client.handle import Child
    from warmfork.api.limits import Reached
    from warmfork.api.options import Environment
    from warmfork.api.streams import Stream

    class SnippetOptions(TypedDict, total=False):
        """The options of one snippet: see docs/run.md."""

        timeout: float | None
        memory_limit: int | None
        cpu_limit: float | None
        output_limit: int | None
        on_output: Callable[[Literal["stdout", "stderr"], Any], object] | None
        check: bool

    class ChildOptions(TypedDict, total=False):
        """The options of the child that runs it."""

        name: str | None
        env: Environment
        cwd: str | os.PathLike[str] | None
        rlimits: Mapping[str, int | tuple[int, int]] | None
        text: bool
        trust: bool

    class RunOptions(SnippetOptions, ChildOptions, total=False):
        """The options of run() and arun()."""

        input: bytes | str | None
        stdin: Stream
        stdout: Stream
        stderr: Stream
        capture_output: bool


SNIPPET: SnippetOptions = {
    "timeout": None,
    "memory_limit": None,
    "cpu_limit": None,
    "output_limit": None,
    "on_output": None,
    "check": False,
}
CHILD: ChildOptions = {"name": None, "env": None, "cwd": None, "rlimits": None, "text": False, "trust": False}
RUN: RunOptions = {
    **SNIPPET,
    **CHILD,
    "input": None,
    "stdin": None,
    "stdout": None,
    "stderr": None,
    "capture_output": False,
}

ENTRY = "warmfork._tasks.run:run"
INTERRUPT_GRACE = 0.25
"""Seconds that a child has, after ^C, to end by itself: as subprocess.run() gives."""

SIGINT, SIGKILL, SIGXCPU = 2, 9, 24

_serials = count(1)


def fill(given: Any, known: Any, what: str) -> Any:
    """Give all options, with the defaults of those that are not given. Raises TypeError for one that there is none of."""
    strange = given.keys() - known.keys()
    if strange:
        raise TypeError(f"{what} has no option {', '.join(sorted(strange))}")
    return {**known, **given}


def read_limits(options: Any) -> Limits:
    """Give the limits among the options of a snippet. Raises TypeError and ValueError."""
    return Limits(options["memory_limit"], options["cpu_limit"], options["output_limit"], options["timeout"])


class Task:
    """What is to be run: checked, and turned into what a start needs."""

    def __init__(
        self,
        what: Callable[..., object] | str | bytes | None,
        args: Iterable[Any],
        kwargs: Mapping[str, Any] | None,
        options: Any,
        is_session: bool = False,
    ) -> None:
        self.options = options
        self.limits = read_limits(options)
        self.rlimits = read_rlimits(options["rlimits"])
        self.trust = bool(options["trust"])
        self.text = bool(options["text"])
        stdin, stdout, stderr = options["stdin"], options["stdout"], options["stderr"]
        self.input: bytes | None = None
        if options["input"] is not None:
            if stdin is not None:
                raise ValueError("input and stdin: one of them")
            given = options["input"]
            self.input = given.encode() if isinstance(given, str) else bytes(given)
            stdin = PIPE
        captures = options["capture_output"]
        if captures and (stdout is not None or stderr is not None):
            raise ValueError("capture_output and stdout or stderr: one of them")
        if captures or options["on_output"] is not None or self.limits.output is not None:
            stdout, stderr = PIPE if stdout is None else stdout, PIPE if stderr is None else stderr
        if stdin == PIPE and self.input is None:
            raise ValueError("stdin=PIPE: nobody would write to it while run() waits; use input=, or start()")
        serial = next(_serials)
        if is_session:
            self.kind, self.rest, label = "session", b"", "session"
        elif isinstance(what, (str, bytes)):
            self.kind, label = "code", "snippet"
            self.rest = what.encode("utf-8", "surrogatepass") if isinstance(what, str) else what
        elif callable(what):
            self.kind, label = "call", getattr(what, "__name__", "call")
            self.rest = pickle_call((what, check_arguments(what, args), dict(kwargs or {})))
        else:
            raise TypeError(f"run a function, or code as str or bytes, not {what!r}")
        if self.kind == "code" and (tuple(args) or kwargs):
            raise TypeError("code takes no arguments: write them into it, or run a function")
        self.name = check_name(options["name"]) or check_name(f"{label}-{serial}") or label
        self.settings: dict[str, Any] = {
            "kind": self.kind,
            "name": f"<{label}-{serial}>",
            "text": isinstance(what, str),
            "trust": self.trust,
            "stdin": stdin is not None,
            "captured": PIPE in (stdout, stderr),
            "rlimits": self.get_rlimits(),
        }
        self.streams = Streams(stdin, stdout, stderr)
        try:
            ours, theirs = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
        except BaseException:
            self.streams.close()
            raise
        self.link = sockets.socket(AF_UNIX, SOCK_STREAM, 0, ours.detach())
        sockets.make_patient(self.link)
        self.theirs = fds.Fd(theirs.detach())

    def get_rlimits(self) -> dict[int, tuple[int, int]]:
        """Give the kernel's limits. The one of processor time is a second line: it holds if this program is stopped."""
        if self.limits.cpu is None or self.kind == "session":
            return self.rlimits
        soft = ceil(self.limits.cpu) + 1
        return {0: (soft, soft + 1), **self.rlimits}  # RLIMIT_CPU

    def make_payload(self) -> Payload:
        """Give what the child is fed."""
        return Payload([words.pack_task(self.settings, self.rest)], [self.theirs.fileno()], None, (), False)

    def let_go(self) -> None:
        """The child has its own copies of what was made for it."""
        self.theirs.close()
        self.streams.let_go()

    def close(self) -> None:
        """Nothing came of it."""
        self.let_go()
        self.streams.close()
        self.link.close()


def pickle_call(call: tuple[Any, ...]) -> bytes:
    """Pickle a call, its arguments included. Raises what pickle raises."""
    from pickle import Pickler

    def by_value(value: object) -> Any:
        from warmfork._tasks.by_value import make_pickler

        return run_pickler(make_pickler(False), value, False)

    pickled = payload_.dump(call, lambda value: run_pickler(Pickler, value, False), by_value, False)
    return b"".join(pickled.parts)


def run(start: Callable[[Task], Child], task: Task) -> Completed[Any]:
    """Start a child for a task, wait for its end, and give what came of it. Whatever is raised, the child is dead."""
    began = monotonic()
    loop = PollLoop()
    try:
        child = start(task)
    except BaseException:
        task.close()
        raise
    watched = attach(task, child, loop)
    try:
        try:
            loop.drive(watched)
        except KeyboardInterrupt:
            interrupt(watched, loop)
            raise
        completed = complete(watched, began)
    finally:
        watched.finish()
    return judge(watched, completed, task.name, task.options["check"])


class PollLoop:
    """The fds of one child, waited for by poll()."""

    def __init__(self) -> None:
        self.poller = poll()
        self.masks: dict[int, int] = {}

    def add(self, fd: int, write: bool = False) -> None:
        """Watch an fd."""
        mask = self.masks.get(fd, 0) | (POLLOUT if write else POLLIN)
        self.masks[fd] = mask
        self.poller.register(fd, mask)

    def remove(self, fd: int) -> None:
        """Watch it no longer."""
        if self.masks.pop(fd, None) is not None:
            self.poller.unregister(fd)

    def drive(self, watched: Watched, until: float | None = None) -> None:
        """Wait until it is over, or until then."""
        while not watched.over and (until is None or monotonic() < until):
            due = watched.get_due()
            if until is not None:
                due = until if due is None else min(due, until)
            for fd, _ in self.poller.poll(None if due is None else max(0.0, due - monotonic()) * 1000):
                if fd in self.masks:
                    watched.on_ready(fd)
            if due is not None and monotonic() >= due:
                watched.on_time()


def interrupt(watched: Watched, loop: PollLoop) -> None:
    """^C came while we waited: the child, which is in no terminal's group, has it too, and a moment to end."""
    if not watched.dead:
        watched.child.send_signal(SIGINT)
        loop.drive(watched, monotonic() + INTERRUPT_GRACE)


def complete(watched: Watched, began: float) -> Completed[Any]:
    """Give what came of it. The child is dead, and its outcome at hand."""
    child = watched.child
    outcome = child.wait()
    usage = child.usage
    alone = usage is not None and watched.wanted is None
    seconds = (usage.seconds if alone and usage is not None else None) or watched.ended - began
    failure = None
    born = child._link.words[-1] if child._link.words else None
    if isinstance(born, messages.BirthFailed):
        failure = Failure(born.cause.partition(":")[0], born.cause.partition(": ")[2], born.traceback)
    return make_completed(
        watched,
        outcome,
        seconds,
        usage.peak_rss if usage is not None else None,
        usage.user + usage.system if usage is not None else None,
        failure,
    )


def make_completed(
    watched: Watched,
    outcome: Any,
    seconds: float,
    peak: int | None = None,
    cpu: float | None = None,
    failure: Failure | None = None,
) -> Completed[Any]:
    """Put together what came of it."""
    found = {output.name: output for output in watched.kept}
    return Completed(
        outcome,
        found["stdout"].get() if "stdout" in found else None,
        found["stderr"].get() if "stderr" in found else None,
        sum(output.dropped for output in watched.kept),
        seconds,
        peak,
        cpu,
        watched.reply,
        watched.trust,
        failure,
    )


def judge(watched: Watched, completed: Completed[Any], name: str, check: bool) -> Completed[Any]:
    """Raise for a limit that was reached, and with `check` for what failed."""
    if watched.broken is not None:
        raise watched.broken
    reached = watched.reached or find_cpu_limit(watched.limits.cpu, completed)
    if reached is not None:
        raise make_error(*reached, completed)
    if check and not completed.ok():
        raise RunError(name, completed)
    return completed


def find_cpu_limit(limit: float | None, completed: Completed[Any]) -> Reached | None:
    """Was it the kernel that ended it, for its processor time?"""
    outcome, cpu = completed.outcome, completed.cpu
    if limit is None or cpu is None or not isinstance(outcome, Signaled):
        return None
    by_kernel = outcome.signal == SIGXCPU or (outcome.signal == SIGKILL and bool(outcome.why))
    return ("cpu", limit, cpu) if by_kernel and cpu >= limit else None


def attach(task: Task, child: Child, poller: Any) -> Watched:
    """Begin to watch a child that was started for a task."""
    task.let_go()
    watched = Watched(child, task.link, task.streams, poller, task.limits, child._channel.pid, task.text, task.trust)
    watched.on_output = task.options["on_output"]
    if task.input is not None:
        watched.give_input(task.input)
    return watched
