from __future__ import annotations

import marshal
import os
import resource
import signal
import subprocess
import sys
import threading

import pytest

from tests.support import has_schedulers, run_forked
from warmfork._machine import signals, state

SMALL = dict(zip(state.NAMES, range(len(state.NAMES)), strict=True))


needs_schedulers = pytest.mark.skipif(not has_schedulers(), reason="musl refuses to tell and set scheduling policies")


def get_born() -> state.Baseline:
    """What a template would have been born with whose client is as this process is now."""
    here = os.stat(".")
    return state.Baseline(dict(state.get_environment()), list(sys.argv), list(sys.path), (here.st_dev, here.st_ino))


def change(**fields: object) -> tuple[tuple[object, ...], tuple[object, ...]]:
    """The small state of this process, and the same with some fields changed."""
    base = state.take_always_said()
    wanted = list(base)
    for name, value in fields.items():
        wanted[SMALL[name.replace("_", " ") if name != "oom_score_adj" else name]] = value
    return tuple(wanted), base


def test_what_equals_what_the_template_was_born_with_is_not_said_again():
    assert set(state.take(get_born(), "")) == {"small"}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda: os.environ.update(WARMFORK_TEST="new"), {"environment"}),
        (lambda: os.environ.pop("PATH"), {"environment"}),
        (lambda: sys.argv.append("more"), {"argv"}),
        (lambda: sys.path.insert(0, "/new"), {"sys_path"}),
        (lambda: (sys.argv.clear(), sys.path.clear(), os.environ.clear()), {"environment", "argv", "sys_path"}),
    ],
)
def test_what_differs_is_said_whole(spoil, said):
    def take() -> dict[str, object]:
        born = get_born()
        spoil()
        taken = state.take(born, "/here")
        assert taken.get("environment", dict(state.get_environment())) == state.get_environment()
        assert taken.get("argv", sys.argv) == sys.argv
        return taken

    assert set(run_forked(take)) == said | {"small"}


def test_the_state_is_of_values_that_marshal_writes():
    def take() -> bool:
        os.environ["ODD"] = "\udcff=\n"
        signals.set_disposition(signal.SIGUSR1, signals.SIG_IGN)
        sys.argv, sys.path = ["\udcff"], ["/odd/\udcff", ""]
        taken = state.take(state.Baseline(None, [], [], (0, 0)), "/here")
        return marshal.loads(marshal.dumps(taken)) == taken

    assert run_forked(take)


def test_the_empty_entry_of_sys_path_is_said_as_the_folder_it_stands_for():
    def take() -> object:
        sys.path = ["", "/a", os.fspath]  # what is no str is nobody's folder
        return state.take(state.Baseline(None, [], [], (0, 0)), "/here")["sys_path"]

    assert run_forked(take) == ["/here", "/a"]


def test_an_environment_comes_back_from_its_lines():
    environment = {b"A": b"1", b"EMPTY": b"", b"ODD": b"a=b\n\xff", "ä".encode(): b"x"}
    assert state.split_environment(state.join_environment(environment)) == environment


def test_the_environment_is_replaced_and_not_merged():
    """Row 1: a removed secret must not survive, neither in os.environ nor in what C code and programs see."""

    def apply() -> tuple[dict[str, str], list[str]]:
        os.environ["SECRET"] = "left over"
        os.environ["KEPT"] = "old"
        small, base = change()
        state.apply({"small": small, "environment": {b"KEPT": b"new", b"ODD": b"\xff=x"}}, base)
        # `env` is found without PATH, and inherits what C has.
        return dict(os.environ), subprocess.run(["/usr/bin/env"], capture_output=True, check=True).stdout.splitlines()

    in_python, in_c = run_forked(apply)
    assert in_python == {"KEPT": "new", "ODD": "\udcff=x"}
    # pytest has loaded readline, which sets these two behind Python's back.
    assert sorted(line for line in in_c if not line.startswith((b"COLUMNS=", b"LINES="))) == [
        b"KEPT=new",
        b"ODD=\xff=x",
    ]


def test_argv_and_sys_path_are_replaced():
    def apply() -> tuple[list[str], list[str]]:
        small, base = change()
        state.apply({"small": small, "argv": ["a", "b"], "sys_path": ["/x"]}, base)
        return sys.argv, sys.path

    assert run_forked(apply) == (["a", "b"], ["/x"])


def test_what_is_not_said_stays():
    def apply() -> bool:
        before = dict(os.environ), list(sys.argv), list(sys.path), state.take_always_said()
        small, base = change()
        state.apply({"small": small}, base)
        return (dict(os.environ), list(sys.argv), list(sys.path), state.take_always_said()) == before

    assert run_forked(apply)


LOWER = tuple(
    (77, hard) if which == resource.RLIMIT_NOFILE else (soft, hard)
    for which, (soft, hard) in enumerate(map(resource.getrlimit, state.LIMITS))
)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("umask", 0o31),
        ("nice", 7),
        ("affinity", frozenset({min(os.sched_getaffinity(0))})),
        pytest.param("scheduler", (os.SCHED_BATCH, 0), marks=needs_schedulers),
        ("limits", LOWER),
        ("oom_score_adj", b"123\n"),
    ],
)
def test_a_child_is_given_the_small_state_of_its_client(name, wanted):
    """Rows 2 to 6, M15."""

    def apply() -> tuple[object, object]:
        small, base = change(**{name: wanted})
        state.apply({"small": small}, base)
        after = state.take_always_said()
        others = [field for field in state.NAMES if field != name and after[SMALL[field]] != base[SMALL[field]]]
        return after[SMALL[name]], others

    assert run_forked(apply) == (wanted, [])


def test_the_process_group_is_joined():
    def apply() -> bool:
        small, base = change()
        os.setpgid(0, 0)
        mine = state.take_always_said()
        state.apply({"small": small}, mine)
        return os.getpgrp() == base[SMALL["group"]]

    assert run_forked(apply)


def test_a_group_of_another_session_cannot_be_joined_and_the_child_runs_all_the_same():
    def apply() -> bool:
        small, _ = change()
        os.setsid()
        state.apply({"small": small}, state.take_always_said())
        return os.getpgrp() == os.getpid()

    assert run_forked(apply)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("affinity", frozenset({1_000_000})),
        ("oom_score_adj", b"9999\n"),
        pytest.param("scheduler", (os.SCHED_FIFO, 5000), marks=needs_schedulers),
    ],
)
def test_what_cannot_be_applied_is_named(name, wanted):
    def apply() -> str:
        small, base = change(**{name: wanted})
        with pytest.raises(OSError) as caught:
            state.apply({"small": small}, base)
        return caught.value.filename

    assert run_forked(apply) == name


def test_all_limits_that_can_not_be_set_are_named():
    """One was told of, and it was not said which."""

    def apply() -> str:
        small, base = change()
        wanted = list(base[SMALL["limits"]])
        for which in (resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE):
            wanted[which] = (5, 4)  # more than the hard limit, for root too
        small = (*small[: SMALL["limits"]], tuple(wanted), *small[SMALL["limits"] + 1 :])
        with pytest.raises(OSError) as caught:
            state.apply({"small": small}, base)
        return caught.value.filename

    assert run_forked(apply) == "limits: RLIMIT_NPROC, RLIMIT_NOFILE"


def test_signals_are_ignored_and_blocked_as_the_client_has_them():
    def apply() -> tuple[object, ...]:
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            signals.set_disposition(number, signals.SIG_DFL)
        signals.set_disposition(signal.SIGUSR1, signals.SIG_IGN)  # the template ignores this one, its client another
        base = state.take_always_said()
        small = list(base)
        small[SMALL["ignored signals"]] = tuple({*base[SMALL["ignored signals"]], signal.SIGUSR2} - {signal.SIGUSR1})
        small[SMALL["signal mask"]] = (int(signal.SIGHUP),)
        signals.set_mask(signals.ALL)
        state.apply({"small": tuple(small)}, base)
        still_blocked = len(signals.get_mask())
        state.set_signals({"small": tuple(small)}, base)
        return (
            still_blocked > 50,
            signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL,
            signal.getsignal(signal.SIGUSR2) == signal.SIG_IGN,
            signals.get_mask(),
        )

    assert run_forked(apply) == (True, True, True, (int(signal.SIGHUP),))


def test_taking_the_state_leaves_the_umask_as_it_was():
    def take() -> int:
        os.umask(0o27)
        assert state.take_always_said()[SMALL["umask"]] == 0o27
        return os.umask(0)

    assert run_forked(take) == 0o27


def test_a_forked_copy_reads_its_own_oom_score():
    state.OOM_SCORE.read(16)

    def read() -> bytes:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("321")
        return state.OOM_SCORE.read(16)

    before = state.OOM_SCORE.read(16)
    assert run_forked(read) == b"321\n"
    assert state.OOM_SCORE.read(16) == before


def test_a_number_that_the_program_has_closed_and_reused_is_not_read_for_the_oom_score(tmp_path):
    """M9."""
    path = tmp_path / "theirs"
    path.write_bytes(b"1000\n")

    def read() -> tuple[bytes, bytes]:
        before = state.OOM_SCORE.read(16)
        theirs = os.open(path, os.O_RDWR)
        os.dup2(theirs, state.OOM_SCORE.fd)
        after = state.OOM_SCORE.read(16)
        os.closerange(3, 1024)
        assert state.OOM_SCORE.read(16) == after
        return before, after

    before, after = run_forked(read)
    assert before == after != b"1000\n"


def test_an_fd_that_is_kept_lives_high_and_is_closed_on_exec():
    low = os.open(os.devnull, os.O_RDONLY)
    high = state.move_high(low)
    assert high >= 200 and not os.get_inheritable(high)
    with pytest.raises(OSError):
        os.fstat(low)
    os.close(high)


def test_where_few_fds_are_allowed_it_stays_where_it_is():
    def move() -> bool:
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
        low = os.open(os.devnull, os.O_RDONLY)
        return state.move_high(low) == low

    assert run_forked(move)


def test_a_folder_is_known_by_what_it_is_and_not_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    born = get_born()
    monkeypatch.chdir(tmp_path / "link")
    assert not state.is_elsewhere(born)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert state.is_elsewhere(born)


def test_the_umask_is_read_and_not_set_while_other_threads_may_create_files(monkeypatch):
    calls = []
    monkeypatch.setattr(os, "umask", lambda mask: calls.append(mask) or 0)
    assert state.read_umask() is not None
    monkeypatch.setattr(state, "STATUS", state.KeptFile("/nowhere"))
    release = threading.Event()
    other = threading.Thread(target=release.wait)
    other.start()
    try:
        assert state.read_umask() is None
    finally:
        release.set()
        other.join()
    assert calls == []


def test_where_nobody_says_the_umask_a_single_thread_finds_it_out():
    def read() -> tuple[int | None, int]:
        state.STATUS = state.KeptFile("/nowhere")
        sys._current_frames = lambda: {1: None}
        os.umask(0o27)
        return state.read_umask(), os.umask(0)

    assert run_forked(read) == (0o27, 0o27)


def test_a_umask_that_nobody_knows_is_not_applied():
    def apply() -> int:
        os.umask(0o27)
        base = state.take_always_said()
        state.apply({"small": (None, *base[1:])}, base)
        return os.umask(0)

    assert run_forked(apply) == 0o27
