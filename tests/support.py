"""What tests share: waiting for something to be so, and running a program whose whole tree must end with it."""

from __future__ import annotations

import mmap
import os
import pickle
import select
import subprocess
import sys
import textwrap
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

from tests import leftovers

T = TypeVar("T")

TREE_DEADLINE = 2.0
"""Seconds after a program's end within which all that it started is gone (docs/design.md, section 7)."""


def has_schedulers() -> bool:
    """Does the C library tell and set scheduling policies? musl refuses both."""
    try:
        return os.sched_getscheduler(0) >= 0
    except OSError:
        return False


class Done(NamedTuple):
    """A program that has ended."""

    code: int
    stdout: str
    stderr: str


def wait_until(predicate: Callable[[], T], deadline: float = 10.0, what: str = "") -> T:
    """Ask until the answer is true, and give it. Fails after `deadline` seconds, naming `what` was waited for."""
    until = time.monotonic() + deadline
    while not (answer := predicate()):
        if time.monotonic() > until:
            raise AssertionError(f"not so within {deadline} s: {what or predicate}")
        select.select((), (), (), 0.005)
    return answer


def make_environment(env: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """This program's environment with these changes; None removes a variable."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    for name, value in (env or {}).items():
        environment.pop(name, None)
        if value is not None:
            environment[name] = value
    return environment


def run_program(
    code: str,
    folder: Path,
    *arguments: str,
    name: str = "program.py",
    flags: Sequence[str] = (),
    env: Mapping[str, str | None] | None = None,
    stdin: str | None = None,
    timeout: float = 60.0,
    expect: int | None = 0,
    leaves: bool = False,
    **options: object,
) -> Done:
    """Run a program text as a file in `folder`, and give its exit code and what it wrote.

    Fails where it takes longer than `timeout` seconds, where its exit code is not `expect` (None: any will do), and
    where 2 s after its end a process that it started is still there (`leaves`: that is what the test is about).
    `flags` go to the interpreter, `arguments` to the program, `options` to subprocess.Popen.
    """
    path = folder / name
    path.write_text(textwrap.dedent(code))
    before = leftovers.list_descendants()
    program = subprocess.Popen(
        [sys.executable, *flags, str(path), *arguments],
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        text=True,
        errors="replace",
        cwd=folder,
        env=make_environment(env),
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )
    try:
        stdout, stderr = program.communicate(stdin, timeout=timeout)
    except subprocess.TimeoutExpired:
        # Its pipes may be held by what it left: end the whole tree, then read what there is.
        leftovers.end(set(leftovers.list_descendants()) - set(before))
        stdout, stderr = program.communicate()
        raise AssertionError(f"it ran for over {timeout} s\nstdout:\n{stdout}\nstderr:\n{stderr}") from None
    said = f"\nstdout:\n{stdout}\nstderr:\n{stderr}"
    if expect is not None:
        assert program.returncode == expect, f"it ended with {program.returncode}, not {expect}{said}"
    if not leaves:
        left = leftovers.wait_for_ends(before, time.monotonic() + TREE_DEADLINE)
        lines = [f"{pid} ({state}): {leftovers.read_title(pid)}" for (pid, _), state in left.items()]
        leftovers.end(left)
        assert not lines, f"left {TREE_DEADLINE} s after its end: {lines}{said}"
    return Done(program.returncode, stdout, stderr)


@contextmanager
def doing_without(*techniques: str) -> Iterator[None]:
    """Make what reads its options in this block do without these techniques (WARMFORK_WITHOUT)."""
    before = os.environ.get("WARMFORK_WITHOUT")
    os.environ["WARMFORK_WITHOUT"] = ",".join(techniques)
    try:
        yield
    finally:
        if before is None:
            del os.environ["WARMFORK_WITHOUT"]
        else:
            os.environ["WARMFORK_WITHOUT"] = before


def fork() -> int:
    """os.fork() without the warning of Python 3.12: the other thread is pytest's watchdog, and holds no lock."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


ANSWER = 1 << 20
"""Room for what a forked copy answers, in bytes."""


def run_forked(function: Callable[..., T], *arguments: object) -> T:
    """Call a function in a forked copy of this process, which it may spoil, and give what it returned.

    The answer comes through memory: the copy may close all its fds.
    """
    with mmap.mmap(-1, ANSWER) as memory:
        pid = fork()
        if pid == 0:
            try:
                try:
                    answer: tuple[bool, object] = True, function(*arguments)
                except BaseException:
                    answer = False, traceback.format_exc()
                memory.write(pickle.dumps(answer))
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        data = memory.read()
    assert data[0], f"{function} ended its process"
    returned, value = pickle.loads(data)
    assert returned, f"in the forked copy:\n{value}"
    return value
