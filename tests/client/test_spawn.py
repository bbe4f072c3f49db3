"""The tracker's interpreter, started before the client is loaded: used once, or sent away."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.leftovers import list_children
from tests.running import ROOT
from tests.support import run_forked, run_program
from warmfork._client import launch, spawn
from warmfork._machine import fds
from warmfork._words.errors import StartError
from warmfork.mp.client import beginning

ENV = {"PYTHONPATH": ROOT}


@pytest.fixture(autouse=True)
def nothing_started(monkeypatch) -> Iterator[None]:
    """This process looks as if it had started nothing yet."""
    monkeypatch.setattr("warmfork._client.client._client", None)
    yield
    spawn.end()


def begin() -> spawn.Interpreter:
    spawn.begin(sys.executable)
    assert len(spawn._begun) == 1
    return spawn._begun[0]


def get_environment() -> dict[bytes, bytes]:
    return dict(os.environb)


def test_it_is_given_to_who_asks_for_the_same():
    begun = begin()
    assert spawn.get_interpreter(sys.executable, spawn.get_flags(), get_environment()) is begun
    assert spawn._begun == []
    begun.discard()


@pytest.mark.parametrize("other", ["executable", "flags", "environment"])
def test_where_another_is_asked_for_it_is_sent_away(other):
    begun = begin()
    link = os.readlink(f"/proc/{os.getpid()}/fd/{begun.door.fileno()}")
    wanted = {"executable": sys.executable, "flags": spawn.get_flags(), "environment": get_environment()}
    wanted |= {"executable": {"executable": os.path.realpath(sys.executable)}, "flags": {"flags": ("-bb",)}}.get(
        other, {"environment": {**get_environment(), b"WARMFORK_TEST_OTHER": b"1"}}
    )
    found = spawn.get_interpreter(**wanted)
    try:
        assert found is not begun and found.pid != begun.pid
        assert begun.pid not in list_children(os.getpid())
        assert link not in {os.readlink(f"/proc/self/fd/{fd}") for fd in fds.list_fds()}
    finally:
        found.discard()


def test_a_start_that_fails_before_it_asked_sends_it_away():
    before = set(list_children(os.getpid()))

    def fail() -> None:
        assert set(list_children(os.getpid())) - before, "it was not begun"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        beginning.begin(fail)
    assert set(list_children(os.getpid())) - before == set()


def test_a_forked_copy_lets_go_of_it_and_leaves_it_alone():
    begun = begin()

    def discard_in_copy() -> int:
        other = spawn.get_interpreter(sys.executable, spawn.get_flags(), get_environment())
        other.discard()
        return other.pid

    assert run_forked(discard_in_copy) != begun.pid
    assert begun.pid in list_children(os.getpid())


def test_an_executable_that_is_not_there_is_said_by_who_needs_it():
    spawn.begin("/nowhere/python")
    assert spawn._begun == []
    with pytest.raises(FileNotFoundError):
        spawn.get_interpreter("/nowhere/python", (), get_environment())


def test_a_package_in_a_zip_file_is_refused_by_name(monkeypatch: pytest.MonkeyPatch):
    """The tracker was started again without end, since no interpreter can run a file in there."""
    monkeypatch.setattr(spawn, "START", "/apps/app.pyz/warmfork/_tracker/start.py")
    spawn.begin(sys.executable)
    assert spawn._begun == []
    with pytest.raises(StartError, match=r"warmfork is in /apps/app.pyz, which is no folder \(a zip file"):
        launch.launch_tracker(sys.executable, (), (), "")


def test_a_tracker_whose_program_lets_go_before_it_spoke_ends():
    begun = begin()
    pidfd = os.pidfd_open(begun.pid)
    begun.door.close()
    assert fds.wait_readable(pidfd, 20)
    os.close(pidfd)
    assert os.waitpid(begun.pid, 0) == (begun.pid, 0)
    begun.close()
    spawn._begun.clear()


COMPARE = """
import subprocess, sys
from warmfork._client import launch, spawn
found = spawn.get_flags()
print(found == tuple(subprocess._args_from_interpreter_flags()), found)
"""


@pytest.mark.parametrize(
    ("options", "variables"),
    [
        ((), {}),
        (("-B",), {}),
        ((), {"PYTHONDONTWRITEBYTECODE": "1"}),
        (("-B", "-O"), {}),
        (("-OO", "-s"), {}),
        (("-X", "utf8", "-B"), {}),
        (("-W", "error", "-B"), {}),
        (("-b", "-q"), {}),
    ],
)
def test_the_options_are_those_that_python_itself_would_hand_on(options, variables):
    done = subprocess.run(
        [sys.executable, *options, "-c", COMPARE],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("True "), done.stdout


def test_threads_that_start_first_at_once_have_one_tracker(tmp_path):
    done = run_program(
        """\
        import os, threading
        import warmfork
        from tests.leftovers import list_children

        def tell(): pass

        if __name__ == "__main__":
            context = warmfork.get_context()
            at_once = threading.Barrier(6)
            codes = []

            def start():
                process = context.Process(target=tell)
                at_once.wait()
                process.start()
                process.join()
                codes.append(process.exitcode)

            threads = [threading.Thread(target=start) for _ in range(6)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            print(codes, len(list_children(os.getpid())))
        """,
        tmp_path,
        env=ENV,
    )
    assert done.stdout == "[0, 0, 0, 0, 0, 0] 1\n"
