"""Nothing is bound in the file system or in a socket namespace, and nothing variable is on a command line
(rows 15, 16, 50, 55, 56, 57)."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import pytest

import warmfork
from tests import targets
from tests.running import ROOT, get_tracker
from tests.support import run_program

ENV = {"PYTHONPATH": ROOT}

PROGRAM = """
    import multiprocessing, os, sys, warmfork

    def show():
        print("worked")

    if __name__ == "__main__":
        context = warmfork.get_context()
        process = context.Process(target=show)
        process.start()
        process.join()
        lock = context.Lock()
        with context.Pool(1) as pool:
            print(pool.map(abs, [-2]))
"""


def list_unix_names() -> set[str]:
    """The names of all bound Unix sockets on this machine, abstract ones too."""
    lines = Path("/proc/net/unix").read_text().splitlines()[1:]
    return {fields[7] for fields in map(str.split, lines) if len(fields) > 7}


def test_a_running_tree_has_no_socket_with_a_name_and_no_temporary_file(private_tmpdir: Path):
    """Rows 55 and 56: nobody can connect who was not given an fd."""
    before = set(os.listdir(private_tmpdir)), list_unix_names()
    with warmfork.Template() as template:
        child = template.start(targets.wait)
        assert set(os.listdir(private_tmpdir)) == before[0]
        sockets = set()
        for pid in (template.pid, get_tracker(), child.pid):
            for fd in os.listdir(f"/proc/{pid}/fd"):
                with suppress(
                    FileNotFoundError
                ):  # it has been closed since: a tracker that comes up, a template at rest
                    target = os.readlink(f"/proc/{pid}/fd/{fd}")
                    if target.startswith("socket:"):
                        sockets.add(target.removeprefix("socket:[").rstrip("]"))
        assert sockets
        lines = Path("/proc/net/unix").read_text().splitlines()[1:]
        named = [line for line in lines if line.split()[6] in sockets and len(line.split()) > 7]
        assert named == []
        child.kill()
        child.wait(20)


@pytest.mark.parametrize("kind", ["long", "read_only", "missing", "unset"])
def test_no_temporary_folder_is_needed(tmp_path: Path, kind: str):
    """Rows 56 and 57: AF_UNIX path too long; a read-only file system."""
    if kind == "long":
        folder = tmp_path / ("d" * 200) / ("e" * 200)
        folder.mkdir(parents=True)
    elif kind == "read_only":
        folder = Path("/proc/sys")  # nobody can make a file there, not even root
    else:
        folder = tmp_path / "missing"
    done = run_program(PROGRAM, tmp_path, env={"TMPDIR": None if kind == "unset" else str(folder)})
    assert done.stdout == "worked\n[2]\n" and done.stderr == ""


def test_a_root_file_system_that_is_read_only_is_no_obstacle(tmp_path: Path):
    """Row 57, really: a mount namespace of its own in which all is read-only but the semaphores' /dev/shm."""
    probe = ["unshare", "--mount", "sh", "-c", "mount -o remount,ro,bind / 2>/dev/null || mount -o remount,ro /"]
    try:
        if subprocess.run(probe, capture_output=True, check=False, timeout=20).returncode:
            pytest.skip("no mount namespaces here")
    except FileNotFoundError:
        pytest.skip("no unshare here")
    (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM))
    script = f"{probe[-1]}; mount -t tmpfs shm /dev/shm && exec {sys.executable} {tmp_path}/program.py"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert (done.stdout, done.stderr) == ("worked\n[2]\n", "")


def test_the_command_lines_of_the_helpers_are_constant(tmp_path: Path):
    """Rows 15 and 16: interpreter, options, one file of ours. Nothing variable, no program text, whatever the program is."""
    code = """
        import os, sys, warmfork
        from tests import targets
        from warmfork._machine import titles
        titles.find = None  # not used in this process

        def show(pid):
            print(open(f"/proc/{pid}/cmdline").read().split(chr(0))[1:-1])

        if __name__ == "__main__":
            with warmfork.Template(preload=["hold_title"]) as template:
                template.wait_ready()
                tracker = int(open(f"/proc/{template.pid}/stat").read().rpartition(")")[2].split()[1])
                show(template.pid)
                show(tracker)
    """
    # Without setproctitle, the command lines stay what exec() got.
    (tmp_path / "hold_title.py").write_text("")
    blocked = tmp_path / "blocked"
    (blocked / "setproctitle").mkdir(parents=True)
    (blocked / "sitecustomize.py").write_text(
        "import sys, types\nfake = types.ModuleType('setproctitle._setproctitle')\n"
        "fake.setproctitle = lambda title: None\nsys.modules['setproctitle._setproctitle'] = fake\n"
    )
    long = ["x" * 100_000, "--option", "and more"]
    done = run_program(code, tmp_path, *long, flags=["-X", "utf8"], env={"PYTHONPATH": f"{blocked}:{ROOT}:{tmp_path}"})
    lines = [eval(line) for line in done.stdout.splitlines()]
    assert len(lines) == 2
    for line in lines:
        assert line[:-1] == ["-B", "-X", "utf8"], line  # -B is what PYTHONDONTWRITEBYTECODE means
        assert line[-1].endswith(("_tracker/start.py", "_template/start.py"))


def test_the_titles_say_who_is_who(tmp_path: Path):
    """Row 50: all are called "-c from multiprocessing.forkserver import main" in the stdlib."""
    code = """
        import os, warmfork
        from tests import targets

        if __name__ == "__main__":
            context = warmfork.get_context()
            process = context.Process(target=targets.wait, name="my-worker")
            process.start()
            for _ in range(200):  # tracker and template get their titles when there is time for it
                lines = os.popen("ps -eo args= | grep '^warmfork: .* [p]rogram'").read()
                if "tracker" in lines and "worker" in lines and "[1 child]" in lines:
                    break
            print(lines)
            process.kill()
            process.join()
    """
    lines = run_program(code, tmp_path, env=ENV).stdout.splitlines()
    assert "warmfork: tracker program" in lines
    assert "warmfork: template program gen=1 [1 child]" in lines
    assert "warmfork: my-worker program" in lines


def test_a_missing_dev_shm_is_an_error_of_locks_and_not_of_processes(tmp_path: Path):
    """Row 59: no semaphores without it; processes and pipes need none."""
    probe = ["unshare", "--mount", "sh", "-c", "mount -t proc none /dev/shm"]
    try:
        if subprocess.run(probe, capture_output=True, check=False, timeout=20).returncode:
            pytest.skip("no mount namespaces here")
    except FileNotFoundError:
        pytest.skip("no unshare here")
    code = """
        import warmfork
        from tests import targets

        if __name__ == "__main__":
            context = warmfork.get_context()
            process = context.Process(target=targets.print_text, args=("worked",))
            process.start()
            process.join()
            with warmfork.Template() as template:
                print(template.start(targets.give, (5,)).result(20))
            try:
                context.Lock()
            except OSError as error:
                print("OSError")
    """
    (tmp_path / "program.py").write_text(textwrap.dedent(code))
    done = subprocess.run(
        [*probe[:-1], f"{probe[-1]} && exec {sys.executable} {tmp_path}/program.py"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": ROOT},
    )
    assert (done.stdout, done.stderr) == ("worked\n5\nOSError\n", "")
