"""The tracker on bad days: strangers that come to it, helpers that end at once, no files left, nobody who reads."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
from pathlib import Path

import pytest

import warmfork
from tests import leftovers, targets
from tests.running import ROOT, get_tracker, run_meanwhile
from tests.signs import make_sign
from tests.support import run_program, wait_until
from warmfork._client import launch
from warmfork._client.client import get_client
from warmfork._machine import fds, pids, sockets
from warmfork._machine.loop import Loop
from warmfork._tracker.generations import KEPT_BOARDS
from warmfork._tracker.orphans import MOST_ASKED, Orphans
from warmfork._words import messages, wire

ENV = {"PYTHONPATH": ROOT}

HAS_A_COMMAND = """
    import os, signal, subprocess, sys, time, warmfork
    from tests import signs

    def run_command(path, leaves):
        command = subprocess.Popen(["sleep", "1000"], start_new_session=True, stdout=subprocess.DEVNULL)
        signs.give(path, str(command.pid))
        if not leaves:
            signal.pause()

    if __name__ == "__main__":
        template = warmfork.Template(orphans="kill")
        child = template.start(run_command, (sys.argv[1], sys.argv[2] == "leaves"))
        if sys.argv[2] == "leaves":
            child.wait(20)
        print(flush=True)
        signal.pause()
"""


@pytest.mark.parametrize("child", ["stays", "leaves"])
def test_a_command_that_a_child_has_started_holds_no_tracker(tmp_path: Path, child: str):
    """It comes to the tracker when its parent is dead. It is ended with a child that is ended, and left alone where its
    parent has ended by itself; in neither case does the tracker wait for it."""
    before = leftovers.list_descendants()
    with make_sign(tmp_path) as sign, run_meanwhile(HAS_A_COMMAND, tmp_path, sign.path, child) as program:
        pid = int(sign.wait()[0])
        command = os.pidfd_open(pid)
        program.stdout.readline()
        program.kill()
        program.wait(10)
        if child == "stays":
            wait_until(lambda: targets.is_dead(command), 2.5)
        wait_until(lambda: not [p for p, _ in leftovers.wait_for_ends(before, 0) if p != pid], 2.5)
        if child == "leaves":
            assert not targets.is_dead(command)
            os.kill(pid, 9)
            wait_until(lambda: targets.is_dead(command))
        os.close(command)


def test_a_tracker_that_ends_at_once_three_times_is_no_longer_tried_and_its_words_are_in_the_error(tmp_path: Path):
    """It was started again without end, 55 times a second."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if '_tracker/start.py' in open('/proc/self/cmdline').read():\n"
        "    open(os.environ['COUNT'], 'a').write('x')\n"
        "    sys.stderr.write('no tracker here\\n'); sys.stderr.flush(); os._exit(7)\n"
    )
    code = """
        import warmfork
        try:
            with warmfork.Template() as template: template.start(int)
        except warmfork.StartError as error:
            print(error)
    """
    count = tmp_path / "count"
    done = run_program(code, tmp_path, env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "COUNT": str(count)})
    assert "ended at once, 3 times: Exited(code=7)\nno tracker here" in done.stdout
    assert len(count.read_text()) == 4


def test_a_sitecustomize_that_has_threads_and_open_files_does_the_tracker_no_harm(tmp_path: Path):
    (tmp_path / "sitecustomize.py").write_text(
        "import os, threading\n"
        "def run(reader):\n"
        "    while os.read(reader, 1): pass\n"
        "threading.Thread(target=run, args=(os.pipe()[0],), daemon=True).start()\n"
    )
    code = """
        import os, warmfork
        path = os.path.abspath("tracked")
        os.mknod(path)
        with warmfork.Template() as template:
            child = template.start(warmfork.track, (path, "file"), kwargs={"scope": "process"})
            child.wait(20)
            while os.path.exists(path): pass
            print(template.start(int).result(20))
    """
    flags = ("-X", "dev", "-W", "error::DeprecationWarning")
    done = run_program(code, tmp_path, env={"PYTHONPATH": f"{tmp_path}:{ROOT}"}, flags=flags)
    assert done.stdout == "0\n" and "Bad file" not in done.stderr


def test_what_debuggers_put_in_place_of_functions_of_os_and_subprocess_does_not_reach_the_helpers(tmp_path: Path):
    code = """
        import os, _posixsubprocess, subprocess, warmfork

        def refuse(*args, **kwargs):
            raise RuntimeError("a debugger follows this process")

        os.posix_spawn = os.posix_spawnp = os.execve = os.spawnve = refuse
        _posixsubprocess.fork_exec = subprocess.Popen = refuse
        with warmfork.Template() as template:
            print(template.start(int).result(20))
    """
    assert run_program(code, tmp_path).stdout == "0\n"


FAILS = """
    import os, sys, warmfork
    from warmfork._client import client as client_
    from warmfork._client import launch, spawn
    from warmfork._machine import fds, memfds, sockets
    from tests import targets

    STEPS = [(memfds, "make_memory"), (sockets, "make_pair"), (spawn, "make_high"), (spawn, "posix_spawn"),
             (os, "pidfd_open"), (memfds, "write_all"), (sockets, "ask_for_credentials"), (os, "open")]

    def fail_once(owner, name, errno, act):
        original = getattr(owner, name)
        def fail(*args, **kwargs):
            raise OSError(errno, os.strerror(errno))
        setattr(owner, name, fail)
        try:
            act()
        except (warmfork.StartError, OSError) as error:
            said = type(error).__name__
        else:
            said = "no error"
        finally:
            setattr(owner, name, original)
        return said

    def act():
        client_.get_client().ensure_door()

    def kill():
        tree = client_.get_client().tree
        os.kill(tree.tracker, 9)
        fds.wait_readable(tree.pidfd.fileno(), 10)

    if __name__ == "__main__":
        successor = sys.argv[1] == "a successor"
        before = 0
        for owner, name in STEPS:
            for errno in (24, 11):
                if successor:
                    act()
                    kill()
                else:
                    client_.get_client().drop_door()
                fds.list_fds()
                before = len(fds.list_fds())
                said = fail_once(owner, name, errno, act)
                if said not in ("StartError", "no error"):
                    print(name, errno, said)
                if said == "StartError" and len(fds.list_fds()) > before:
                    print(name, errno, "fds are left", before, len(fds.list_fds()))
                files = [open(os.devnull) for _ in range(20)]
                act()
                assert client_.get_client().tree.has_tracker(), name
                for file in files: file.close()
        with warmfork.Template() as template:
            print(template.start(targets.give, (5,)).result(20))
"""


@pytest.mark.parametrize("what", ["a first tracker", "a successor"])
def test_a_tracker_that_can_not_be_started_leaves_nothing_and_can_be_later(tmp_path: Path, what: str):
    """The second attempt closed what the first had closed already: EBADF for ever, or somebody else's file."""
    assert run_program(FAILS, tmp_path, what, env=ENV).stdout == "5\n"


@pytest.mark.parametrize("moment", ["before it has read anything", "when it has read a name"])
def test_a_tracker_that_is_killed_in_its_first_moment_has_a_successor_that_knows_whose_tree_it_is(
    tmp_path: Path, moment: str
):
    code = f"""
        import os, warmfork
        from warmfork._client.client import get_client
        from warmfork._machine import fds, sockets

        os.mknod("tracked")
        client = get_client()
        client.ensure_door()
        if {moment!r} == "when it has read a name":
            warmfork.track("tracked", "file")
            while fds.wait_readable(client.tree.receiver.fileno(), 0): pass
        os.kill(client.tree.tracker, 9)
        fds.wait_readable(client.tree.pidfd.fileno(), 10)
        warmfork.track("tracked", "file")
        with warmfork.Template() as template:
            print(template.start(int).result(20))
    """
    done = run_program(code, tmp_path, expect=None)
    assert done.stdout == "0\n" and "Traceback" not in done.stderr
    assert not (tmp_path / "tracked").exists()


def test_a_tracker_that_is_out_of_files_says_so_and_serves_when_there_are_some():
    with warmfork.Template() as template:
        template.start(targets.give, (1,)).result(20)
        tracker = get_tracker()
        wait_until(lambda: leftovers.read_title(tracker).startswith("warmfork: tracker"))  # it is in its loop
        limits = resource.prlimit(tracker, resource.RLIMIT_NOFILE)
        launch.ask_fate(
            get_client().ensure_door(), 1, 1, 20
        )  # what it has in reserve has the lowest number from then on
        looks: list[set[int]] = []
        wait_until(lambda: looks.append(set(fds.list_files(tracker) or ())) or looks[-9:] == [looks[-1]] * 9)
        used = looks[-1]
        # No number is free: what it has in reserve is all that it can have.
        resource.prlimit(tracker, resource.RLIMIT_NOFILE, (min(set(range(1000)) - used), limits[1]))
        try:
            with (
                warmfork.Template(name="one too many") as other,
                pytest.raises(warmfork.StartError, match=r"the tracker is out of files: raise the limit"),
            ):
                other.wait_ready()
        finally:
            resource.prlimit(tracker, resource.RLIMIT_NOFILE, limits)
        with warmfork.Template(name="one more") as other:
            assert other.start(targets.give, (2,)).result(20) == 2
        assert get_tracker() == tracker


def test_tracker_and_template_may_have_all_the_files_that_the_system_allows_and_children_what_the_program_has(
    tmp_path: Path,
):
    code = """
        import resource, warmfork
        from warmfork._client.client import get_client
        NOFILE = resource.RLIMIT_NOFILE
        _, hard = resource.getrlimit(NOFILE)
        resource.setrlimit(NOFILE, (100, hard))
        with warmfork.Template() as template, warmfork.Template(name="by exec") as other:
            print(template.start(resource.getrlimit, (NOFILE,)).result(20) == (100, hard))
            print(other.start(resource.getrlimit, (NOFILE,)).result(20) == (100, hard))
            for pid in (template.pid, other.pid, get_client().tree.tracker):
                print(resource.prlimit(pid, NOFILE) == (hard, hard))
    """
    assert run_program(code, tmp_path).stdout == "True\n" * 5


def test_names_are_removed_though_nobody_reads_what_is_said_of_them(tmp_path: Path):
    """The pipe behind the program's stderr is full: a stopped pager, a frozen terminal."""
    code = """
        import os, warmfork
        from warmfork._client.client import get_client
        for number in range(5):
            os.mknod(f"tracked-{number}")
            warmfork.track(f"tracked-{number}", "file")
        os.set_blocking(2, False)
        for size in (4096, 1):
            try:
                while True: os.write(2, b"x" * size)
            except BlockingIOError: pass
        os.set_blocking(2, True)
        print(get_client().tree.tracker, flush=True)
        os.kill(os.getpid(), 9)
    """
    reader, writer = os.pipe()
    try:
        with run_meanwhile(code, tmp_path, stderr=writer) as program:
            tracker = int(program.stdout.readline())
            program.wait(20)
            wait_until(lambda: not list(tmp_path.glob("tracked-*")), 3)
            wait_until(lambda: pids.read_stat(tracker)[:1] in ([], [b"Z"]), 10, "the end of the tracker")
    finally:
        os.close(reader)
        os.close(writer)


def test_a_pid_that_was_used_again_is_not_answered_with_the_fate_of_the_one_that_had_it_before():
    loop = Loop(pytest.fail)
    orphans = Orphans(loop, pytest.fail)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    for since, status in ((100, 0), (300, 256)):
        orphans.keep_fate(2**22 + 7, since, status, usage, [])
    for moment, known, status in ((50, 0, 0), (150, 1, 0), (299, 1, 0), (400, 1, 256)):
        ours, theirs = sockets.make_pair()
        orphans.serve_ask(messages.Ask(2**22 + 7, moment), theirs)
        answer = wire.decode(sockets.receive(ours).data)
        assert isinstance(answer, messages.Fate)
        assert (answer.known, answer.status) == (known, status)
        ours.close()
    with subprocess.Popen(["sleep", "100"]) as living:
        ours, theirs = sockets.make_pair()
        orphans.serve_ask(messages.Ask(living.pid, 1), theirs)  # of one that lived long before
        living.kill()
    assert wire.decode(sockets.receive(ours).data).known == 0
    ours.close()
    loop.poller.close()


def test_those_who_ask_for_ever_leave_the_tracker_files_for_others():
    """Each has a socket there, until the process that he asks about is dead."""
    loop = Loop(pytest.fail)
    orphans = Orphans(loop, pytest.fail)
    with subprocess.Popen(["sleep", "100"]) as living:
        before = len(os.listdir("/proc/self/fd"))
        askers = []
        for _ in range(MOST_ASKED + 3):
            ours, theirs = sockets.make_pair()
            askers.append(ours)
            orphans.serve_ask(messages.Ask(living.pid, 1 << 62), theirs)
        assert len(os.listdir("/proc/self/fd")) == before + len(askers) + MOST_ASKED
        assert [asker.recv(1, socket.MSG_DONTWAIT) for asker in askers[:3]] == [b""] * 3, "nobody knows"
        for answer in orphans.asked.pop(living.pid):
            loop.forget(answer.fileno())
            answer.close()
        for asker in askers:
            asker.close()
        living.kill()
    loop.poller.close()


def test_templates_that_can_not_preload_leave_nothing_in_the_tracker():
    """Each left two files open there, if it was another than those before; until nobody was served any longer."""

    def fail(first: int) -> None:
        for number in range(first, first + KEPT_BOARDS + 1):
            with pytest.raises(warmfork.PreloadError):
                warmfork.Template([f"not_there_{number}"]).wait_ready()

    def count_fds() -> int:
        return len(os.listdir(f"/proc/{get_tracker()}/fd"))

    fail(0)
    before = count_fds()
    fail(100)
    wait_until(lambda: count_fds() <= before + 2, what="as few files as after the first ones")


def test_names_in_dev_shm_that_anybody_can_make_are_no_error():
    from warmfork._names import removing as names

    for digits in ("xyz", "", "-5", "1_0", "f" * 200, "0x12", " 1", f"{os.getpid():x}"):
        assert not names.is_dead(digits)
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert names.is_dead(f"{gone.pid:x}")


def test_the_ledger_is_nobody_else_s_to_open():
    get_client().ensure_door()
    assert os.fstat(get_client().tree.ledger.fileno()).st_mode & 0o777 == 0o600
