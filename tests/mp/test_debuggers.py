"""Debuggers and profilers on programs that start processes. `pip install --group tools` brings them."""

from __future__ import annotations

import cProfile
import inspect
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import make_environment, wait_until

PROGRAM = """
import multiprocessing
import warmfork

def work(number):
    doubled = number * 2
    return doubled

def main():
    with multiprocessing.get_context("forkserver").Pool(2) as pool:
        print(pool.map(work, range(4)))
        pool.close()
        pool.join()
    with warmfork.Template() as template:
        print(template.start(work, (4,)).result(30))
    print("end", flush=True)

if __name__ == "__main__":
    warmfork.install()
    main()
"""
PRINTED = ["[0, 2, 4, 6]", "8", "end"]
DEADLINE = 60


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def begin(program: Path, *command: str) -> subprocess.Popen[str]:
    """Start this Python with a command, in the program's folder."""
    return subprocess.Popen(
        [sys.executable, *command], cwd=program.parent, text=True, stdin=subprocess.DEVNULL,
        env=make_environment({"PYDEVD_DISABLE_FILE_VALIDATION": "1"}), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for its end, which must be one with 0. Gives what it printed."""
    printed, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, printed + errors
    return printed


class Adapter:
    """A client of debugpy, as an IDE is one: requests by name, and the events that come."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        self.file = self.socket.makefile("rb")
        self.number = 0

    def ask(self, command: str, **arguments: Any) -> int:
        """Send a request, and give its number."""
        self.number += 1
        said = {"seq": self.number, "type": "request", "command": command, "arguments": arguments}
        data = json.dumps(said).encode()
        self.socket.sendall(b"Content-Length: %d\r\n\r\n%b" % (len(data), data))
        return self.number

    def read(self) -> dict[str, Any]:
        """Give the next message, {} at the end."""
        length = 0
        while (line := self.file.readline().strip()) or not length:
            if not line:
                return {}
            length = int(line.partition(b":")[2])
        found: dict[str, Any] = json.loads(self.file.read(length))
        return found

    def wait(self, kind: str, name: str) -> dict[str, Any]:
        """Give the next event, or response, of that name."""
        while message := self.read():
            if message["type"] == kind and message.get("event", message.get("command")) == name:
                assert message.get("success", True), message
                return message
        raise AssertionError(f"the connection ended before {kind} {name}")

    def close(self) -> None:
        self.file.close()
        self.socket.close()


def get_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def connect(port: int) -> Adapter:
    """Connect to debugpy, which takes a moment to be there."""
    made: list[Adapter] = []

    def can() -> bool:
        try:
            made.append(Adapter(port))
        except ConnectionRefusedError:
            return False
        return True

    wait_until(can, DEADLINE)
    return made[0]


def test_a_program_under_debugpy_to_which_nobody_attaches_runs_and_ends(program: Path):
    pytest.importorskip("debugpy")
    process = begin(program, "-m", "debugpy", "--listen", f"127.0.0.1:{get_free_port()}", str(program))
    assert finish(process).splitlines() == PRINTED


def test_a_breakpoint_of_an_attached_debugger_is_met_and_the_program_ends(program: Path):
    pytest.importorskip("debugpy")
    port = get_free_port()
    process = begin(program, "-m", "debugpy", "--listen", f"127.0.0.1:{port}", "--wait-for-client", str(program))
    client = connect(port)
    try:
        client.ask("initialize", adapterID="debugpy", linesStartAt1=True, pathFormat="path")
        client.wait("response", "initialize")
        client.ask("attach", justMyCode=True, subProcess=False)
        client.wait("event", "initialized")
        line = PROGRAM.splitlines().index('    print("end", flush=True)') + 1
        client.ask("setBreakpoints", source={"path": str(program)}, breakpoints=[{"line": line}])
        client.wait("response", "setBreakpoints")
        client.ask("configurationDone")
        thread = client.wait("event", "stopped")["body"]["threadId"]
        client.ask("stackTrace", threadId=thread)
        assert client.wait("response", "stackTrace")["body"]["stackFrames"][0]["line"] == line
        client.ask("continue", threadId=thread)
        client.wait("event", "terminated")
    finally:
        client.close()
    assert finish(process).splitlines() == PRINTED


@pytest.mark.parametrize("settings", ["concurrency = multiprocessing", "patch = subprocess, _exit, fork"])
def test_coverage_measures_the_functions_of_a_pool_s_children(program: Path, settings: str):
    coverage = pytest.importorskip("coverage")
    if "patch" in settings and coverage.version_info < (7, 10):
        pytest.skip("coverage 7.10 has patches")
    (program.parent / ".coveragerc").write_text(f"[run]\nparallel = true\n{settings}\n")
    for command in (["run", program.name], ["combine", "-q"], ["json", "-q"]):
        finish(begin(program, "-m", "coverage", *command))
    found = json.loads((program.parent / "coverage.json").read_text())
    assert found["files"]["program.py"]["missing_lines"] == []


WAITING = """
import sys
import warmfork

def wait_here(queue):
    queue.put("here")
    sys.stdin.read()  # /dev/null
    queue.put("there")
    import signal
    signal.pause()

if __name__ == "__main__":
    ctx = warmfork.get_context()
    queue = ctx.Queue()
    process = ctx.Process(target=wait_here, args=(queue,), daemon=True)
    process.start()
    assert queue.get() == "here" and queue.get() == "there"
    print(process.pid, flush=True)
    process.join()
"""


def test_py_spy_shows_the_stack_of_a_child(program: Path):
    spy = shutil.which("py-spy", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if spy is None:
        pytest.skip("py-spy is not installed")
    program.write_text(WAITING)
    process = begin(program, str(program))
    assert process.stdout is not None
    pid = process.stdout.readline().strip()
    try:
        shown = subprocess.run(
            [spy, "dump", "--pid", pid], capture_output=True, text=True, timeout=DEADLINE, check=False
        )
        if (
            "Permission" in shown.stderr
            or "Unsupported version" in shown.stderr
            or "find python version" in shown.stderr
        ):
            pytest.skip(f"py-spy can't look here: {shown.stderr.strip()}")
        assert "wait_here (program.py:" in shown.stdout, shown.stdout + shown.stderr
    finally:
        process.terminate()
        process.communicate(timeout=DEADLINE)


PROFILED = """
import cProfile
import pstats
import warmfork

def work(number):
    return sum(range(number))

def profiled(number):
    profile = cProfile.Profile()
    value = profile.runcall(work, number)
    return value, sorted(name for _, _, name in pstats.Stats(profile).stats)

if __name__ == "__main__":
    with warmfork.get_context().Pool(1) as pool:
        print(pool.map(profiled, [4])[0])
"""


def test_c_profile_measures_what_a_child_runs_under_it(program: Path):
    program.write_text(PROFILED)
    printed = finish(begin(program, str(program)))
    assert printed.startswith("(6, [") and "'work'" in printed


@pytest.mark.skipif(
    "sys.modules['__main__']" not in inspect.getsource(cProfile),
    reason="with this Python's cProfile, a script is no __main__, and pickle finds none of its functions",
)
def test_c_profile_of_a_whole_program_lets_it_start_children(program: Path):
    finish(begin(program, "-m", "cProfile", "-o", "all.prof", str(program)))
    assert (program.parent / "all.prof").stat().st_size
