from __future__ import annotations

import errno
import logging
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import warmfork
from tests.support import Done
from warmfork import Template
from warmfork._machine import memfds, platform


@pytest.fixture(autouse=True)
def unchecked(monkeypatch):
    """The check is made once in a process: forget that it was."""
    monkeypatch.setattr(platform, "_checked", False)


def refuse(error: OSError) -> object:
    def call(*arguments: object) -> int:
        raise error

    return call


def test_this_system_has_what_it_takes():
    platform.check()
    assert platform._checked


@pytest.mark.parametrize("name", ["win32", "darwin"])
def test_another_system_is_named_with_what_to_use_there(monkeypatch, name):
    monkeypatch.setattr(sys, "platform", name)
    with pytest.raises(warmfork.UnsupportedPlatform, match=rf"this is {name}\nhint: .*\"spawn\""):
        platform.check()
    with pytest.raises(warmfork.UnsupportedPlatform):
        Template()


def test_a_free_threaded_build_is_refused_with_its_gil_on_too(monkeypatch):
    """Its objects are laid out in another way."""
    monkeypatch.setattr(sys, "abiflags", "t")
    for call in (platform.check, Template):
        with pytest.raises(warmfork.UnsupportedPlatform, match="free-threaded"):
            call()


def test_a_free_threaded_interpreter_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    with pytest.raises(warmfork.UnsupportedPlatform, match="free-threaded"):
        platform.check()


REFUSALS = [PermissionError(1, "filtered"), OSError(38, "not implemented")]


@pytest.mark.parametrize("error", REFUSALS)
def test_a_kernel_or_a_filter_that_refuses_pidfds_is_named(monkeypatch, error):
    """M24: EPERM from an old container runtime's filter means the same as ENOSYS."""
    monkeypatch.setattr(os, "pidfd_open", refuse(error))
    with pytest.raises(warmfork.UnsupportedPlatform, match="no pidfds"):
        platform.check()
    assert not platform._checked, "what was refused is asked again"


def test_a_python_that_was_built_without_pidfds_and_memfds_has_them_all_the_same(monkeypatch):
    monkeypatch.delattr(os, "pidfd_open")
    monkeypatch.delattr(os, "memfd_create")
    platform.check()
    assert not memfds.no_memfds


@pytest.mark.parametrize("error", REFUSALS, ids=["EPERM", "ENOSYS"])
def test_without_memfds_files_do_and_that_is_logged(monkeypatch, caplog, error):
    monkeypatch.setattr(memfds, "no_memfds", False)
    monkeypatch.setattr(os, "memfd_create", refuse(error))
    with caplog.at_level(logging.INFO, logger="warmfork"):
        platform.check()
        platform.check()
    assert ["no memfds" in record.getMessage() for record in caplog.records] == [True]
    fd = memfds.make_memory("warmfork-test", b"content", size=10_000)
    try:
        assert os.fstat(fd).st_size == 10_000 and os.fstat(fd).st_blocks * 512 >= 10_000, "none of it is a hole"
        assert os.fstat(fd).st_nlink == 0 and memfds.read_all(fd, 7) == b"content"
        assert "/warmfork-test-" in os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def test_without_memfds_and_without_a_folder_it_says_so(monkeypatch):
    monkeypatch.setattr(memfds, "no_memfds", False)
    monkeypatch.setattr(os, "memfd_create", refuse(REFUSALS[0]))
    monkeypatch.setattr(os, "open", refuse(OSError(30, "Read-only file system")))
    with pytest.raises(warmfork.UnsupportedPlatform, match="no memfds, and no folder takes a file"):
        platform.check()


@pytest.mark.parametrize("call", ["pidfd_open", "memfd_create"])
@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_program_that_is_out_of_files_is_not_told_that_its_kernel_is_too_old(monkeypatch, call, number):
    monkeypatch.setattr(os, call, refuse(OSError(number, os.strerror(number))))
    with pytest.raises(OSError) as caught:
        platform.check()
    assert caught.value.errno == number and not platform._checked


needs_root = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare")

STARTS = """
import warnings
import warmfork
context = warmfork.get_context()
if __name__ == "__main__":
    print("a context", flush=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lock = context.Lock()
        process = context.Process(target=int, args=(5,))
        process.start()
        process.join()
        print(process.exitcode, flush=True)
    for warning in caught:
        print(str(warning.message).splitlines()[0], flush=True)
    try:
        warmfork.Template()
    except warmfork.UnsupportedPlatform as error:
        print(str(error).splitlines()[0], flush=True)
"""


def run_elsewhere(folder: Path, script: str) -> Done:
    """Run the program where this script has prepared the place, as a process of a mount namespace of its own."""
    (folder / "program.py").write_text(STARTS)
    command = ["unshare", "-m", "sh", "-c", f'{script} exec "$@"', "sh", sys.executable, str(folder / "program.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=folder)
    return Done(done.returncode, done.stdout, done.stderr)


@needs_root
def test_without_proc_processes_are_spawned_and_a_warning_says_what_to_mount(tmp_path):
    done = run_elsewhere(tmp_path, "while umount -l /proc 2>/dev/null; do :; done;")
    said = "no /proc is mounted (warmfork needs it): mount -t proc proc /proc"
    spawned = f"processes are started by spawn, which is slower: {said}"
    assert done == (0, "\n".join(["a context", "0", spawned, said, ""]), "")


@needs_root
def test_the_proc_of_another_pid_namespace_is_told_from_none(tmp_path):
    (tmp_path / "program.py").write_text(STARTS)
    command = ["unshare", "-m", "-p", "-f", sys.executable, str(tmp_path / "program.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr, lines[:2], len(lines)) == (0, "", ["a context", "0"], 4)
    for line in lines[2:]:
        assert "the /proc that is mounted is another pid namespace's" in line and "mount -t proc" in line


@needs_root
def test_a_program_under_run_keeps_the_tracker_of_multiprocessing_where_warmfork_can_not_work(tmp_path):
    """Its first Lock raised UnsupportedPlatform, where python itself runs it."""
    code = """
    import multiprocessing
    if __name__ == "__main__":
        for _ in range(2):
            queue, lock = multiprocessing.Queue(), multiprocessing.Lock()
            process = multiprocessing.Process(target=queue.put, args=(1,))
            process.start()
            print(queue.get(timeout=30))
            process.join()
    """
    (tmp_path / "program.py").write_text(textwrap.dedent(code))
    command = ["unshare", "-m", "-p", "-f", sys.executable, str(tmp_path / "program.py")]
    environment = {**os.environ, "WARMFORK_RUN": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "1\n1\n"), done.stderr
    assert done.stderr.count("processes are started by spawn") == 1 and "Traceback" not in done.stderr


@needs_root
def test_what_proc_lacks_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(platform, "NEEDED", (*platform.NEEDED, "nonsense"))
    with pytest.raises(warmfork.UnsupportedPlatform, match="/proc has no self/nonsense here"):
        platform.check()


@needs_root
@pytest.mark.parametrize(
    "prepare",
    [
        "mount -t tmpfs none /dev",
        "umount -l /proc; mount -t proc -o hidepid=2 proc /proc",
        "umount -l /proc; mount -t proc -o subset=pid proc /proc",
    ],
    ids=["an empty /dev", "a /proc that hides others", "a /proc of processes only"],
)
def test_in_a_bare_place_processes_start(tmp_path, prepare):
    code = """
    import os, sys, warmfork
    if __name__ == "__main__":
        assert os.path.exists("/dev/null") != ("/dev" in sys.argv[1])
        with warmfork.Template() as template:
            print(template.start(sum, ([40, 2],)).result(20), flush=True)
        process = warmfork.get_context().Process(target=print, args=("works",), kwargs={"flush": True})
        process.start()
        process.join()
        print(process.exitcode)
    """
    (tmp_path / "program.py").write_text(textwrap.dedent(code))
    program = [sys.executable, str(tmp_path / "program.py"), prepare]
    command = ["unshare", "-m", "sh", "-c", f'{prepare}; exec "$@"', "sh", *program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.PIPE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "42\nworks\n0\n", "")
