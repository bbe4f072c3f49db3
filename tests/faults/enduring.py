"""The program whose system calls fail: starts, nested starts, names; what is refused is tried once more.

`python -m tests.faults.enduring`. What it did and was told goes to the driver, as events.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from multiprocessing import shared_memory
from typing import Any

import warmfork
from tests.faults import actors, stops


def give(code: int) -> int:
    """What a child does: return something, for its exit code to be 0."""
    return code


def end(code: int) -> None:
    """What a child does: end."""
    sys.exit(code)


def nest(context: Any, code: int) -> None:
    """What a child does: start another, and end as that does."""
    try:
        process = context.Process(target=end, args=(code,))
        process.start()
    except (warmfork.WarmforkError, OSError):
        sys.exit(99)  # it was told: an answer as good as any
    process.join()
    sys.exit(process.exitcode)


def attempt(name: str, function: Callable[..., Any], *given: Any) -> Any:
    """Do it, and where it is refused, once more. Tell what came of it."""
    for number in (1, 2):
        began = time.monotonic()
        try:
            value = function(*given)
        except BaseException as error:
            told = isinstance(error, (warmfork.WarmforkError, OSError))
            said = f"{type(error).__name__}: {error}"[:1000]
            stops.say("refused", name=name, number=number, error=said, told=told, took=time.monotonic() - began)
        else:
            stops.say("done", name=name, number=number, took=time.monotonic() - began)
            return value
    return None


def run(context: Any, target: Callable[..., Any], given: tuple[Any, ...], wanted: int) -> None:
    """Start a process, wait for it, and tell how it is said to have ended."""
    process = context.Process(target=target, args=given)
    process.start()
    process.join()
    stops.say("ended", child=process.pid, code=process.exitcode, wanted=wanted)
    process.close()


def call(template: warmfork.Template, value: int) -> None:
    """Have a child of a template return something."""
    child = template.start(give, (value,))
    try:
        result: object = child.result()
    except warmfork.ChildError as error:
        result = str(error)
    stops.say("ended", child=child.pid, code=result, wanted=value)
    child.close()


def main() -> None:
    """Do a bit of everything."""
    template = attempt("a Template", lambda: warmfork.Template(spares=0))
    context = warmfork.get_context(spares=0)
    lock = attempt("a lock", context.Lock)
    segment = attempt("a segment", lambda: shared_memory.SharedMemory(create=True, size=4096))
    attempt("a template", context.wait_ready)
    for number in (1, 2):
        attempt(f"process {number}", run, context, end, (number,), number)
    attempt("a nested process", run, context, nest, (context, 3), 3)
    attempt("a call", call, template, 4)
    # From here on nothing fails any more, if it was to fail at all.
    attempt("a last process", run, context, end, (5,), 5)
    attempt("a last call", call, template, 6)
    actors.collect()
    generation = max(template.generation, context._get_prepared().get_channel().generation)
    stops.say("counted", fds=actors.count_fds(), template=context.template_pid, generation=generation)
    sys.stdin.readline()
    template.stop()
    del lock
    if segment is not None:
        segment.close()
        segment.unlink()
    stops.say("finishing")


if __name__ == "__main__":
    main()
