"""The check that follows each test is itself checked: it sees what is left, waits for what is ending, and tidies."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import warmfork
from tests.leftovers import Snapshot, drop_strangers, let_go_of_templates, list_descendants, list_shared_memory
from tests.support import run_program, wait_until

SLEEPS = [sys.executable, "-c", "import signal; signal.pause()"]


@pytest.fixture
def before(private_tmpdir: Path) -> Snapshot:
    let_go_of_templates(set())  # what earlier tests have left to be let go of later is none of ours
    return Snapshot(private_tmpdir)


def test_a_process_that_is_left_is_named_and_ended(before):
    process = subprocess.Popen(SLEEPS)
    [line] = before.collect(0.1)
    assert line.startswith(f"process {process.pid} (")
    assert process.pid not in {pid for pid, _ in list_descendants()}
    process.wait()


def test_an_orphan_is_seen(before):
    subprocess.run(["sh", "-c", f"{sys.executable} -c 'import signal; signal.pause()' &"], check=True)
    [line] = before.collect(0.1)
    assert "import signal; signal.pause()" in line


def test_a_process_that_is_ending_is_waited_for(before):
    subprocess.run(["sh", "-c", "sleep 0.2 &"], check=True)
    assert before.collect() == []


def test_an_fd_that_is_left_open_is_named_with_its_file(before):
    fd = os.open("/etc/hosts", os.O_RDONLY)
    assert f"fd {fd}: closed before, /etc/hosts now" in before.collect(0.1)
    os.close(fd)


def test_an_fd_that_was_closed_for_somebody_else_is_named():
    fd = os.open("/etc/hosts", os.O_RDONLY)
    before = Snapshot(Path(tempfile.gettempdir()))
    os.close(fd)
    assert before.collect(0.1) == [f"fd {fd}: /etc/hosts before, closed now"]


def make_semaphore_file(namespace: int, pid: int) -> Iterator[Path]:
    path = Path(f"/dev/shm/sem.mp-{namespace:x}.{pid:x}.0000-leftover")
    path.touch(0o600)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


OUR_NAMESPACE = os.stat("/proc/self/ns/pid").st_ino


def test_shared_memory_that_is_left_is_named_and_removed(before):
    with contextmanager(make_semaphore_file)(OUR_NAMESPACE, os.getpid()) as path:
        assert before.collect(0.1) == [str(path)]
        assert not path.exists()


def test_shared_memory_that_we_have_mapped_is_ours_whatever_its_name(before, monkeypatch):
    monkeypatch.delenv("TESTS_OWN_SHM", raising=False)
    path = Path(f"/dev/shm/warmfork-test-leftover-{os.getpid()}")
    path.write_bytes(b"x")
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 1):
        assert str(path) in before.collect(0.1)
    assert not path.exists()


@pytest.mark.skipif(os.getppid() == 0, reason="as pid 1 of a namespace this process has no parent that it could see")
def test_the_names_of_others_are_neither_counted_nor_removed(before, monkeypatch):
    """Also while nobody has them mapped: another program's semaphores were destroyed by that."""
    monkeypatch.delenv("TESTS_OWN_SHM", raising=False)
    path = Path(f"/dev/shm/sem.mp-other-{os.getpid()}")
    path.touch(0o600)
    try:
        with (
            contextmanager(make_semaphore_file)(OUR_NAMESPACE ^ 1, os.getpid()) as elsewhere,
            contextmanager(make_semaphore_file)(OUR_NAMESPACE, os.getppid()) as parents,
        ):
            assert before.collect(0.1) == []
            assert path.exists() and elsewhere.exists() and parents.exists()
    finally:
        path.unlink(missing_ok=True)


def test_in_a_shared_memory_of_the_tests_own_every_name_counts(before, monkeypatch):
    path = Path(f"/dev/shm/warmfork-test-leftover-{os.getpid()}")
    path.touch(0o600)
    monkeypatch.setenv("TESTS_OWN_SHM", "1")
    try:
        assert str(path) in [f"/dev/shm/{name}" for name in drop_strangers(list_shared_memory() - before.names)]
    finally:
        path.unlink()


def test_a_temporary_file_that_is_left_is_named(before):
    folder = tempfile.mkdtemp()
    assert before.collect(0.1) == [os.path.basename(folder)]
    os.rmdir(folder)


def test_a_template_that_nobody_stopped_is_let_go_of(before):
    assert warmfork.Template().start(sum, ([1, 2],)).result(30) == 3
    assert before.collect() == []


def test_a_child_that_nobody_ended_is_named(before):
    pid = warmfork.Template().start(signal.pause).pid
    assert any(line.startswith(f"process {pid} (") for line in before.collect(0.3))


def test_a_program_whose_tree_outlives_it_fails_the_test_that_ran_it(tmp_path):
    code = "import subprocess, sys; subprocess.Popen(sys.argv[1:], stdout=-3, stderr=-3)"
    with pytest.raises(AssertionError, match=r"left 2.0 s after its end: \['\d+ \(S\): .*signal.pause"):
        run_program(code, tmp_path, *SLEEPS)


def test_a_program_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path):
    code = "import subprocess, sys; print('said', flush=True); subprocess.run(sys.argv[1:])"
    with pytest.raises(AssertionError, match=r"it ran for over 1.0 s\nstdout:\nsaid\n"):
        run_program(code, tmp_path, *SLEEPS, timeout=1.0)


def test_what_never_comes_true_fails_with_what_was_waited_for():
    with pytest.raises(AssertionError, match=r"not so within 0.01 s: rain"):
        wait_until(lambda: False, 0.01, "rain")
    assert wait_until(lambda: "sun", 0.01) == "sun"
