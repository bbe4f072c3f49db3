"""A child has the state that its client has at start(), not the one that its template was born with (rows 1 to 6, M15)."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import warmfork
from tests import targets
from tests.running import ROOT
from tests.support import has_schedulers, run_program

needs_schedulers = pytest.mark.skipif(not has_schedulers(), reason="musl refuses to tell and set scheduling policies")


@contextmanager
def change_environment(tmp_path: Path) -> Iterator[None]:
    os.environ["ADDED_AFTER"] = "yes"
    removed = os.environ.pop("HOME")
    changed = os.environ["PATH"]
    os.environ["PATH"] = f"{changed}:/nowhere"
    yield
    del os.environ["ADDED_AFTER"]
    os.environ.update(HOME=removed, PATH=changed)


@contextmanager
def change_cwd(tmp_path: Path) -> Iterator[None]:
    here = os.getcwd()
    os.chdir(tmp_path)
    yield
    os.chdir(here)


@contextmanager
def change_umask(tmp_path: Path) -> Iterator[None]:
    old = os.umask(0o027)
    yield
    os.umask(old)


@contextmanager
def change_argv(tmp_path: Path) -> Iterator[None]:
    old = sys.argv
    sys.argv = ["other", "--flag", "é", "x" * 200_000]
    yield
    sys.argv = old


@contextmanager
def change_path(tmp_path: Path) -> Iterator[None]:
    sys.path.insert(0, str(tmp_path))
    yield
    sys.path.remove(str(tmp_path))


@contextmanager
def change_mask(tmp_path: Path) -> Iterator[None]:
    old = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGTERM])
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, old)


@contextmanager
def change_ignored(tmp_path: Path) -> Iterator[None]:
    """What nohup does (SIGHUP), and what a shell does for a background job (SIGINT)."""
    old = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGHUP, signal.SIGINT)}
    yield
    for number, handler in old.items():
        signal.signal(number, handler)


@contextmanager
def change_affinity(tmp_path: Path) -> Iterator[None]:
    old = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(old)})
    yield
    os.sched_setaffinity(0, old)


@contextmanager
def change_oom_score(tmp_path: Path) -> Iterator[None]:
    path = Path("/proc/self/oom_score_adj")
    old = path.read_text()
    path.write_text(str(min(1000, int(old) + 100)))
    yield
    path.write_text(old)


@contextmanager
def change_limits(tmp_path: Path) -> Iterator[None]:
    """Soft limits only: the hard ones could not be raised again."""
    old = {number: resource.getrlimit(number) for number in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE)}
    resource.setrlimit(resource.RLIMIT_NOFILE, (700, old[resource.RLIMIT_NOFILE][1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, old[resource.RLIMIT_CORE][1]))
    yield
    for number, limits in old.items():
        resource.setrlimit(number, limits)


CHANGES = [
    change_environment,
    change_cwd,
    change_umask,
    change_argv,
    change_path,
    change_mask,
    change_ignored,
    change_affinity,
    change_oom_score,
    change_limits,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.partition("_")[2])
def test_what_changed_after_the_first_start_is_changed_in_the_next_child(
    either: warmfork.Template, tmp_path: Path, change
):
    """Rows 1, 4, 6, 14 and M15. And what is changed back is back."""
    before = either.start(targets.see_state).result(20)
    assert before == targets.see_state()
    with change(tmp_path):
        mine = targets.see_state()
        assert mine != before, "the change changes nothing"
        assert either.start(targets.see_state).result(20) == mine
    assert either.start(targets.see_state).result(20) == before


def test_the_kernel_agrees_on_blocked_and_ignored_signals(either: warmfork.Template, tmp_path: Path):
    """M15: Python's own idea of a disposition is not proof."""
    assert either.start(targets.see_kernel_signals).result(20) == targets.see_kernel_signals()
    with change_ignored(tmp_path), change_mask(tmp_path):
        assert either.start(targets.see_kernel_signals).result(20) == targets.see_kernel_signals()


def test_a_secret_that_was_removed_from_the_environment_is_in_no_later_child(
    template: warmfork.Template, monkeypatch: pytest.MonkeyPatch
):
    """Row 1: the environment is replaced, never merged; C code that asks getenv() sees the same."""
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    with warmfork.Template(preload=["tests.targets"]) as born_with_it:
        assert born_with_it.start(targets.get_c_variable, ("SECRET_TOKEN",)).result(20) == b"hunter2"
        monkeypatch.delenv("SECRET_TOKEN")
        assert born_with_it.start(targets.get_c_variable, ("SECRET_TOKEN",)).result(20) is None
        assert "SECRET_TOKEN" not in born_with_it.start(targets.see_state).result(20)["environ"]


def test_an_environment_of_megabytes_arrives(template: warmfork.Template, monkeypatch: pytest.MonkeyPatch):
    """M17: one message has a limit; what is larger goes through memory."""
    for number in range(30):
        monkeypatch.setenv(f"LARGE_{number}", "v" * 100_000)
    assert template.start(targets.see_state).result(20)["environ"] == dict(os.environ)


def test_the_environment_may_hold_bytes_that_are_no_text(template: warmfork.Template):
    os.environb[b"RAW_BYTES"] = b"\xff\xfe"
    try:
        assert template.start(targets.see_state).result(20)["environ"] == dict(os.environ)
    finally:
        del os.environb[b"RAW_BYTES"]


def test_a_deleted_working_directory_is_still_the_working_directory(template: warmfork.Template, tmp_path: Path):
    folder = tmp_path / "gone"
    folder.mkdir()
    here = os.getcwd()
    os.chdir(folder)
    folder.rmdir()
    try:
        child = template.start(os.readlink, ("/proc/self/cwd",))
        assert child.result(20) == f"{folder} (deleted)"
    finally:
        os.chdir(here)


def test_stdout_and_stderr_that_were_redirected_after_the_first_start_are_the_child_s(
    either: warmfork.Template, capfd: pytest.CaptureFixture[str], tmp_path: Path
):
    """Rows 4 and 5: redirection by dup2, as pytest's capture and capturing libraries do it."""
    assert either.start(targets.print_text, ("to the capture",)).wait(20) == warmfork.Exited(0)
    assert capfd.readouterr().out == "to the capture\n"
    saved = [os.dup(1), os.dup(2)]
    for number in (1, 2):
        fd = os.open(tmp_path / str(number), os.O_WRONLY | os.O_CREAT)
        os.dup2(fd, number)
        os.close(fd)
    try:
        for number in (1, 2):
            either.start(targets.print_text, (f"to file {number}", number)).wait(20)
    finally:
        for number, fd in zip((1, 2), saved, strict=True):
            os.dup2(fd, number)
            os.close(fd)
    assert [(tmp_path / name).read_text() for name in "12"] == ["to file 1\n", "to file 2\n"]
    assert capfd.readouterr() == ("", "")


def test_stdin_is_the_null_device(either: warmfork.Template):
    assert either.start(targets.list_fds).result(20)[0] == "/dev/null"


def test_the_random_numbers_of_two_children_differ(either: warmfork.Template):
    drawn = [either.start(targets.draw_random).result(20) for _ in range(3)]
    assert len(set(drawn)) == 3


def test_numpy_draws_other_numbers_in_each_child_unless_it_was_seeded():
    pytest.importorskip("numpy")
    with warmfork.Template(preload=["tests.targets", "numpy"]) as template:
        assert len({template.start(targets.draw_numpy).result(60) for _ in range(3)}) == 3
    with warmfork.Template(preload=["tests.targets:seed_numpy"]) as seeded:
        assert len({seeded.start(targets.draw_numpy).result(60) for _ in range(3)}) == 1


PROGRAM = """
    import os, resource, signal, sys
    sys.path.insert(0, {root!r})
    from tests import targets
    import warmfork

    def check(change):
        with warmfork.Template(preload=["tests.targets"]) as template:
            before = template.start(targets.see_state).result(20)
            assert before == targets.see_state(), (before, targets.see_state())
            change()
            mine = targets.see_state()
            assert mine != before, "the change changes nothing"
            after = template.start(targets.see_state).result(20)
            assert after == mine, [(k, mine[k], after[k]) for k in mine if mine[k] != after[k]]

    check({change})
"""


@pytest.mark.parametrize(
    "change",
    [
        "lambda: os.nice(3)",
        "lambda: resource.setrlimit(resource.RLIMIT_CPU, (500, 600))",
        "lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300))",
        "lambda: os.setpgid(0, 0)",
        pytest.param("lambda: os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))", marks=needs_schedulers),
    ],
    ids=["nice", "limit", "hard_limit", "group", "scheduler"],
)
def test_what_can_not_be_undone_is_transported_as_well(tmp_path: Path, change: str):
    """Row 6 and M15: nice, hard limits, process group, scheduling class; each in a program of its own."""
    run_program(PROGRAM.format(root=ROOT, change=change), tmp_path)


def test_a_program_under_nohup_has_children_that_ignore_sighup(tmp_path: Path):
    """M15: a child that dies of SIGHUP when its nohup'ed program does not."""
    code = f"""
        import os, signal, sys
        sys.path.insert(0, {ROOT!r})
        from tests import targets
        import warmfork
        with warmfork.Template() as template:
            print(template.start(targets.see_kernel_signals).result(20)[1] & 1)
    """
    assert run_program(code, tmp_path, preexec_fn=ignore_hangup).stdout == "1\n"
    assert run_program(code, tmp_path).stdout == "0\n"


def ignore_hangup() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def test_the_state_is_that_of_the_calling_thread(either: warmfork.Template):
    """M15: nice and affinity are of a thread on Linux."""
    import threading

    cpus = sorted(os.sched_getaffinity(0))
    seen = []

    def start() -> None:
        os.sched_setaffinity(0, {cpus[-1]})
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
        seen.append(either.start(targets.see_state).result(20))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join(30)
    assert seen[0]["affinity"] == [cpus[-1]] and seen[0]["mask"] == [signal.SIGUSR2]
    assert either.start(targets.see_state).result(20)["affinity"] == cpus


def test_a_start_from_a_process_that_changed_its_user_is_refused_with_the_reason(tmp_path: Path):
    """Row 6 and M6: the template has kept the old credentials, and its children would have them."""
    if os.geteuid() != 0:
        pytest.skip("only root can change its user")
    code = """
        import os, warmfork
        with warmfork.Template() as template:
            template.wait_ready()
            os.seteuid(65534)
            try:
                template.start(os.geteuid)
            except warmfork.Refused as error:
                print(error.difference)
            os.seteuid(0)
            print(template.start(os.geteuid).result(20))
    """
    difference, user = run_program(code, tmp_path).stdout.splitlines()
    assert difference.startswith("user ids: (0, 65534, 0), not (0, 0, 0); capabilities: ") and user == "0"
