"""The stage of a cell: its program, the events that its processes tell of, their deaths as the kernel has them."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests import leftovers
from warmfork._machine import pids

ROOT = Path(__file__).resolve().parents[2]
INSIDE = Path(__file__).resolve().parent / "inside"

PROMPT = 2.0
"""Seconds within which whoever waits has its answer, and within which all that a dead program owned is gone."""

PATIENCE = 10.0
"""Seconds for what is no answer to a death: an interpreter that starts, a child that runs."""

NAMES = ("child", "grandchild", "steady", "daemon", "parent")


class Fault(Exception):
    """Something is not as it must be, and the cell can't go on."""


class Stage:
    """One cell's program and what is known of it. To be used in a `with` block."""

    def __init__(self, program: str, *arguments: str, armed: str = "", **variables: str) -> None:
        self.faults: list[str] = []
        self.events: list[dict[str, Any]] = []
        self.watched: dict[int, int] = {}  # pid: pidfd
        self.deaths: dict[int, float] = {}
        self.folder = Path(tempfile.mkdtemp(prefix="faults-"))
        self.temporary = self.folder / "tmp"
        self.temporary.mkdir()
        for name in ("events", *(f"order-{name}" for name in NAMES)):
            os.mkfifo(self.folder / name)
        self.fifos: dict[str, int] = {}
        self.rest = b""
        self.processes = leftovers.list_descendants()
        self.names = leftovers.list_shared_memory()
        self.poller = select.poll()
        self.poller.register(self.open_fifo("events"), select.POLLIN)
        if armed:
            self.arm(armed)
        path = os.pathsep.join((str(INSIDE), str(ROOT)))
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "WARMFORK_"))},
            "PYTHONPATH": path,
            "PYTHONDONTWRITEBYTECODE": "1",
            "FAULTS_FOLDER": str(self.folder),
            "TMPDIR": str(self.temporary),
            **variables,
        }
        self.stderr = open(self.folder / "stderr", "w+b")  # noqa: SIM115
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            # A shell starts what it runs in the background with it ignored, and programs inherit that.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self.program = subprocess.Popen(
            [sys.executable, "-m", f"tests.faults.{program}", *arguments],
            stdin=subprocess.PIPE,
            stdout=self.stderr,
            stderr=self.stderr,
            cwd=self.folder,
            env=environment,
            start_new_session=True,
        )
        self.watch(self.program.pid)

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- giving orders

    def open_fifo(self, name: str) -> int:
        """Open a FIFO for both, so that neither opening nor writing waits for anybody."""
        if name not in self.fifos:
            path = self.folder / name
            if not path.exists():
                os.mkfifo(path)
            self.fifos[name] = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        return self.fifos[name]

    def tell_program(self, order: str) -> None:
        """Tell the program what to do next."""
        try:
            os.write(self.program.stdin.fileno(), f"{order}\n".encode())
        except BrokenPipeError:
            raise Fault(f"the program was dead when it was told to {order}") from None

    def order(self, name: str, order: str) -> None:
        """Tell a child that acts what to do."""
        os.write(self.open_fifo(f"order-{name}"), f"{order}\n".encode())

    def arm(self, stop: str) -> None:
        """Have the next process that comes by stop there."""
        self.open_fifo(f"gate-{stop}")
        (self.folder / f"stop-{stop}").touch()

    def release(self, stop: str, order: str = "go") -> None:
        """Let whoever stopped go on."""
        os.write(self.open_fifo(f"gate-{stop}"), f"{order}\n".encode())

    # -- seeing what happens

    def watch(self, pid: int) -> None:
        """Notice the death of this process."""
        if pid not in self.watched:
            with suppress(ProcessLookupError):
                self.watched[pid] = os.pidfd_open(pid)
                self.poller.register(self.watched[pid], select.POLLIN)

    def pump(self, timeout: float) -> None:
        """Take in what happens within this time, at most one round of it."""
        by_fd = {fd: pid for pid, fd in self.watched.items()}
        for fd, _ in self.poller.poll(max(0.0, timeout) * 1000):
            if fd == self.fifos["events"]:
                *lines, self.rest = (self.rest + os.read(fd, 65_536)).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    self.watch(event["pid"])
                    if "child" in event:
                        self.watch(event["child"])
                    self.events.append(event)
            else:
                self.deaths[by_fd[fd]] = time.monotonic()
                self.poller.unregister(fd)
                self.reap(by_fd[fd])

    def reap(self, pid: int) -> None:
        """Reap the dead as PID 1 would: orphans of the cell are our children."""
        try:
            found, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return
        if found == self.program.pid:
            self.program.returncode = os.waitstatus_to_exitcode(status)

    def wait(self, what: str, ready: Any, within: float) -> Any:
        """Wait until `ready()` gives something. Raises Fault, saying what was waited for."""
        deadline = time.monotonic() + within
        while True:
            found = ready()
            if found:
                return found
            rest = deadline - time.monotonic()
            if rest <= 0:
                raise Fault(f"{what}: not within {within:g} s")
            self.pump(min(rest, 0.1))

    def find(self, what: str, **fields: object) -> dict[str, Any] | None:
        """Give the event of this kind that came first, if one came."""
        for event in self.events:
            if event["what"] == what and all(event.get(name) == value for name, value in fields.items()):
                return event
        return None

    def expect(self, what: str, within: float = PATIENCE, **fields: object) -> dict[str, Any]:
        """Wait for an event. A start that is refused ends the waiting."""

        def look() -> dict[str, Any] | None:
            refused = self.find("refused", name=fields.get("name")) if "name" in fields else None
            if refused is not None:
                raise Fault(f"the start of {refused['name']} was refused: {refused['error']}")
            return self.find(what, **fields)

        said = ", ".join(map(str, fields.values()))
        found: dict[str, Any] = self.wait(f"{said or 'program'} {what}", look, within)
        return found

    def is_dead(self, pid: int) -> bool:
        """Is this process dead?"""
        return pid not in self.watched or bool(select.select([self.watched[pid]], [], [], 0)[0])

    def wait_dead(self, pid: int, what: str, within: float = PROMPT) -> None:
        """Wait for a death."""
        self.wait(f"{what} dead", lambda: self.is_dead(pid), within)

    def read_truth(self, pid: int) -> int | None:
        """Give the exit code of a dead process as the kernel has it (Linux 6.15), as multiprocessing would say it."""
        if pid not in self.watched:
            return None
        deadline = time.monotonic() + 1.0
        while (status := pids.ask_status(self.watched[pid])) is None and time.monotonic() < deadline:
            self.pump(0.01)  # it is told once the process is reaped
            self.reap(pid)
        return None if status is None else os.waitstatus_to_exitcode(status)

    def send(self, pid: int, number: int) -> None:
        """Send a signal to a process that is watched."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.watched[pid], number)

    def read_stderr(self) -> str:
        """Give what the program and its children wrote."""
        self.stderr.seek(0)
        return self.stderr.read().decode("utf-8", "replace")

    # -- the end

    def find_leftovers(self, within: float = PROMPT) -> list[str]:
        """Say what is left of the program, after this time."""
        deadline = time.monotonic() + within
        left = leftovers.wait_for_ends(self.processes, deadline)
        found = [f"left: process {leftovers.read_title(pid)!r} ({state})" for (pid, _), state in left.items()]
        look = [
            lambda: [f"left: /dev/shm/{name}" for name in sorted(self.list_names())],
            lambda: [f"left: {path.relative_to(self.folder)}" for path in self.temporary.rglob("*") if path.is_file()],
            lambda: [
                f"left: {path.relative_to(self.folder)}" for path in self.temporary.rglob("*") if path.is_socket()
            ],
        ]
        for each in look:
            found += leftovers.wait_for_none(each, deadline)
        return found

    def list_names(self) -> set[str]:
        """The entries of /dev/shm that are new."""
        return leftovers.drop_strangers(leftovers.list_shared_memory() - self.names)

    def close(self) -> None:
        """End what is left, and remove the folder."""
        self.end_all(leftovers.wait_for_ends(self.processes, 0.0))
        leftovers.remove_names(leftovers.list_shared_memory() - self.names)
        for fd in (*self.watched.values(), *self.fifos.values()):
            os.close(fd)
        self.program.stdin.close()
        self.stderr.close()
        if self.program.returncode is None:
            with suppress(ChildProcessError):
                self.program.wait(PATIENCE)
        shutil.rmtree(self.folder, ignore_errors=True)

    def end_all(self, found: Iterable[leftovers.Identity]) -> None:
        """Kill these, and wait until all that comes of it is over."""
        leftovers.end(found)
        deadline = time.monotonic() + PATIENCE
        while (left := leftovers.wait_for_ends(self.processes, 0.0)) and time.monotonic() < deadline:
            leftovers.end(left)
            leftovers.wait_for_any_death([pid for pid, _ in left], 0.1)
