"""`python -m tests.parallel [ARGUMENTS]`: pytest in two processes at once, which share the files of tests between them.

Most of the suite's time is spent in processes that it starts, or waiting for them. The last line is pytest's own, with the
numbers of both.

Each process collects all tests and takes a file when it has nothing to do: who makes a file's sign first has it.
pytest-xdist does the same with threads in the processes that test, and Python warns of each os.fork() beside a thread.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

SIGNS = "WARMFORK_TESTS_TAKEN"
"""The folder with an empty file for each file of tests that was taken."""

PROCESSES = 2
"""The CPU time of the suite is nearly its wall time: more gives nothing where there are two processors, and where there are
more, tests that measure are disturbed."""

LONG = ("test_reentry", "test_failing", "test_matrix", "test_hanging", "test_snippets", "test_soak", "test_limits")
"""The files that take longest come first, so that none is begun when the other process has nothing left."""


# -- in the processes that test: this module is a plugin of theirs


def take(path: str) -> bool:
    """Take a file of tests, unless the other process has it."""
    try:
        os.close(os.open(f"{os.environ[SIGNS]}/{path.replace('/', '+')}", os.O_CREAT | os.O_EXCL | os.O_CLOEXEC))
    except FileExistsError:
        return False
    return True


def list_taken(items: Sequence[pytest.Item]) -> Iterator[pytest.Item]:
    """Give the tests of the files that this process takes, a file at a time."""
    files: dict[str, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.nodeid.partition("::")[0], []).append(item)
    for path in sorted(files, key=lambda path: Path(path).stem not in LONG):
        if take(path):
            yield from files[path]


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run the tests of the files that are taken. What is done before and after is as in pytest's own loop."""
    if SIGNS not in os.environ or session.config.option.collectonly or session.testsfailed:
        return None
    taken = list_taken(session.items)
    item = next(taken, None)
    while item is not None:
        following = next(taken, None)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        item = following
    return True


# -- in the process that starts them


def sum_up(endings: Sequence[str], seconds: float) -> str:
    """Make pytest's last line from those of several processes."""
    counts: Counter[str] = Counter()
    for ending in endings:
        for number, word in re.findall(r"(\d+) ([a-z]+)", ending.rpartition(" in ")[0]):
            counts[{"error": "errors", "warning": "warnings"}.get(word, word)] += int(number)
    order = ("failed", "passed", "skipped", "deselected", "xfailed", "xpassed", "warnings", "errors")
    told = [f"{counts[word]} {word}" for word in order if counts[word]]
    return f"{', '.join(told) or 'no tests ran'} in {seconds:.2f}s"


def run(arguments: Sequence[str]) -> int:
    """Run pytest in PROCESSES processes. Gives the first exit code that is no success."""
    began = time.monotonic()
    signs = tempfile.mkdtemp(prefix="warmfork-tests-taken-")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.parallel", *arguments]
    outputs = [Path(signs, f"output-{number}") for number in range(PROCESSES)]
    try:
        running = []
        try:
            for output in outputs:
                with output.open("wb") as file:
                    # A group each: what tests stop and orphan in one is no matter of the other's. The kernel sends SIGHUP
                    # to a whole group that is orphaned and has somebody who is stopped (setpgid(2)).
                    its = {**os.environ, SIGNS: signs}
                    running.append(subprocess.Popen(command, stdout=file, stderr=file, env=its, process_group=0))
            follow(outputs, running)
        finally:
            for process in running:  # ^C reaches this process alone
                if process.poll() is None:
                    process.send_signal(signal.SIGINT)
        codes = [process.wait() for process in running]
        endings = []
        for output in outputs:
            lines = output.read_text(errors="replace").rstrip().splitlines() or [""]
            endings.append(lines.pop())
            print(*(line for line in lines if not re.fullmatch(r"[.sxXFE]+( +\[ *\d+%\])?", line)), sep="\n")
        print(sum_up(endings, time.monotonic() - began), flush=True)
        return next((code for code in codes if code not in (0, 5)), min(codes))  # 5: it found nothing left to take
    finally:
        shutil.rmtree(signs)


def follow(outputs: Sequence[Path], running: Sequence[subprocess.Popen[bytes]]) -> None:
    """Show a character for each test, as pytest does, from all processes, until all have ended."""
    shown = [0] * len(outputs)
    column = 0
    while True:
        ended = all(process.poll() is not None for process in running)
        for number, output in enumerate(outputs):
            text = output.read_text(errors="replace")
            marks = "".join(re.findall(r"^([.sxXFE]+)(?: +\[ *\d+%\])?$", text.partition("\n=")[0], re.MULTILINE))
            for mark in marks[shown[number] :]:
                column += 1
                print(mark, end="\n" if column % 100 == 0 else "", flush=True)
            shown[number] = max(shown[number], len(marks))
        if ended:
            print(flush=True)
            return
        time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
