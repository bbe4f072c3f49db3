"""A template that dies: its children run on, their handles keep telling the truth, and the next start has another
(row 34, M1 to M5)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import warmfork
from tests import targets
from tests.running import ROOT
from tests.signs import give, make_sign
from tests.support import run_program, wait_until
from warmfork._client.client import get_client

ENDINGS = [
    (("sys", "exit", (7,)), warmfork.Exited(7)),
    (("sys", "exit", (0,)), warmfork.Exited(0)),
    (("os", "abort", ()), warmfork.Signaled(signal.SIGABRT)),
    (("os", "_exit", (255,)), warmfork.Exited(255)),
]


def kill_and_wait(pid: int) -> None:
    """Kill the template, and wait until it is dead."""
    pidfd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: targets.is_dead(pidfd))
    os.close(pidfd)


def test_children_of_a_killed_template_run_on_and_their_endings_are_told_exactly(tmp_path: Path):
    """Row 34 and M4: the stdlib says 255 at once, of children that live."""
    with make_sign(tmp_path) as ready, make_sign(tmp_path) as go, warmfork.Template() as template:
        children = [template.start(targets.sign_wait_and_call, (ready.path, go.path, *end)) for end, _ in ENDINGS]
        terminated = template.start(targets.sign_and_wait, (ready.path,))
        returned = template.start(targets.sign_wait_and_call, (ready.path, go.path, "os", "getpid", ()))
        ready.wait(len(children) + 2)
        kill_and_wait(template.pid)
        assert {child.outcome for child in (*children, terminated, returned)} == {None}, "they live"
        terminated.terminate()
        assert terminated.wait(20) == warmfork.Signaled(signal.SIGTERM)
        for _ in (*children, returned):
            give(go.path)
        for child, (_, outcome) in zip(children, ENDINGS, strict=True):
            seen = child.wait(20)
            assert (type(seen), *seen.__match_args__) == (type(outcome), *outcome.__match_args__)
            assert getattr(seen, "code", None) == getattr(outcome, "code", None)
            assert getattr(seen, "signal", None) == getattr(outcome, "signal", None)
            assert child.usage is not None
        assert returned.result(20) == returned.pid
        assert template.start(targets.give, ("next",)).result(20) == "next"
        assert template.generation == 2


def test_a_child_that_ends_at_the_moment_at_which_its_template_is_killed_has_its_own_exit_code(tmp_path: Path):
    """M3 and M4: what was sent before the death is read, and what was not is the tracker's to tell."""
    with warmfork.Template(preload=["tests.targets"]) as template:
        for round_ in range(30):
            child = template.start(os._exit, (round_,))
            if round_ % 3:
                child.fileno() and wait_until(lambda child=child: targets.is_dead(child.fileno()))
            os.kill(template.pid, signal.SIGKILL)
            assert child.wait(20) == warmfork.Exited(round_)
        assert template.start(targets.give, (1,)).result(20) == 1
        assert template.generation == 31


def test_a_start_under_which_the_template_is_killed_runs_its_function_exactly_once(tmp_path: Path):
    """M2: the function of a retried start must not run in a ghost as well."""
    note = tmp_path / "note"
    with warmfork.Template(preload=["tests.targets"]) as template:
        template.wait_ready()
        client = get_client()
        killer = threading.Event()

        def kill_often() -> None:
            while not killer.wait(0.004):
                for channel in list(client.channels.values()):
                    if channel.pid and not channel.dead:
                        try:
                            os.kill(channel.pid, signal.SIGKILL)
                        except ProcessLookupError:
                            continue

        thread = threading.Thread(target=kill_often)
        thread.start()
        started = 0
        try:
            for number in range(40):
                try:
                    child = template.start(targets.append_line, (str(note), str(number)))
                except warmfork.StartError:
                    continue  # three templates died under it: it was given up, and nothing ran
                child.result(20)
                started += 1
        finally:
            killer.set()
            thread.join(20)
        lines = note.read_text().split() if note.exists() else []
        assert len(lines) == len(set(lines)) == started, "each that was started ran, once, and no other did"


def test_concurrent_starts_after_a_death_bring_up_one_generation():
    """M5: one next generation, and not one for each that asks."""
    with warmfork.Template() as template:
        template.wait_ready()
        kill_and_wait(template.pid)
        parents: list[object] = []
        threads = [
            threading.Thread(target=lambda: parents.append(template.start(os.getppid).result(20))) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert parents == [template.pid] * 8 and template.generation == 2


def start_when(context: warmfork.Context, go: object, parents: object) -> None:
    """In a child: start a process when that is wanted, which says who has forked it."""
    go.wait(20)
    process = context.Process(target=say_parent, args=(parents,))
    process.start()
    process.join(20)


def say_parent(parents: object) -> None:
    parents.put(os.getppid())


def test_children_that_start_something_after_a_death_have_one_next_generation():
    """M5: they are clients of their own, and each says hello."""
    context = warmfork.get_context(spares=0)
    go, parents = context.Event(), context.SimpleQueue()
    processes = [context.Process(target=start_when, args=(context, go, parents)) for _ in range(3)]
    for process in processes:
        process.start()
    kill_and_wait(context.template_pid)
    go.set()
    for process in processes:
        process.join(30)
        process.close()
    assert len({parents.get() for _ in range(3)}) == 1
    parents.close()


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP, signal.SIGUSR1]
)
def test_a_signal_to_the_whole_group_does_not_end_or_stop_template_and_tracker(tmp_path: Path, number: int):
    """Rows 34 and 42, M22: ^C, ^Z and a hangup reach the helpers too, which end by pidfd and by nothing else."""
    code = f"""
        import os, signal, warmfork
        from tests import targets
        with warmfork.Template() as template:
            template.wait_ready()
            before = template.pid
            signal.signal({int(number)}, lambda number, frame: None)
            os.killpg(0, {int(number)})
            print(template.start(targets.give, (5,)).result(20), template.pid == before)
    """
    done = run_program(code, tmp_path, env={"PYTHONPATH": ROOT}, start_new_session=True)
    assert (done.stdout, done.stderr) == ("5 True\n", "")


def test_a_program_that_reaps_every_child_it_has_can_go_on_starting(tmp_path: Path):
    """Row 35: liveness is a pidfd; whoever calls waitpid(-1) takes nothing from us."""
    code = """
        import os, signal, threading, warmfork
        from tests import targets

        def reap(*_):
            while True:
                try:
                    if os.waitpid(-1, os.WNOHANG)[0] == 0:
                        return
                except ChildProcessError:
                    return

        signal.signal(signal.SIGCHLD, reap)
        with warmfork.Template() as template:
            for number in range(3):
                child = template.start(targets.raise_error, (SystemExit(number),))
                reap()
                assert child.wait(20) == warmfork.Exited(number)
                tracker = int(open(f"/proc/{template.pid}/stat").read().rpartition(")")[2].split()[1])
                os.kill(template.pid, 9)
            os.kill(tracker, 9)
            while True:
                reap()
                if not os.path.exists(f"/proc/{tracker}"):
                    break
            assert template.start(targets.give, (1,)).result(20) == 1
            os.kill(template.pid, 9)
            assert template.start(targets.give, (2,)).result(20) == 2
        print("done")
    """
    assert run_program(code, tmp_path, env={"PYTHONPATH": ROOT}).stdout == "done\n"


def test_a_killed_tracker_costs_neither_children_nor_starts(tmp_path: Path):
    code = """
        import os, sys, warmfork
        from tests import targets
        with warmfork.Template() as template:
            child = template.start(targets.wait)
            tracker = int(open(f"/proc/{template.pid}/stat").read().rpartition(")")[2].split()[1])
            os.kill(tracker, 9)
            os.waitpid(tracker, 0)
            assert child.outcome is None
            assert template.start(targets.give, (1,)).result(20) == 1
            child.terminate()
            assert child.wait(20) == warmfork.Signaled(15)
            other = warmfork.Template(name="after-it")
            assert other.start(targets.give, (2,)).result(20) == 2
            other.stop()
        print("done")
    """
    assert run_program(code, tmp_path, env={"PYTHONPATH": ROOT}).stdout == "done\n"


def test_nothing_of_a_program_whose_template_and_tracker_were_killed_is_left(tmp_path: Path):
    """A child that runs on is still ended, at the latest by its handle; and is never called dead before it is."""
    code = """
        import os, sys, warmfork
        from tests import targets
        with warmfork.Template() as template:
            child = template.start(targets.wait)
            pid = template.pid
            tracker = int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
            os.kill(tracker, 9)
            os.kill(pid, 9)
            os.waitpid(tracker, 0)
            assert child.outcome is None
            child.kill()
            outcome = child.wait(20)
            assert outcome == warmfork.Signaled(9) or isinstance(outcome, warmfork.Lost), outcome
            assert template.start(targets.give, (1,)).result(20) == 1
        print("done")
    """
    assert run_program(code, tmp_path, env={"PYTHONPATH": ROOT}).stdout == "done\n"


def test_an_exit_code_of_multiprocessing_stays_true_when_its_template_is_killed(tmp_path: Path):
    context = warmfork.get_context()
    with make_sign(tmp_path) as ready, make_sign(tmp_path) as go:
        process = context.Process(target=targets.sign_wait_and_call, args=(ready.path, go.path, "sys", "exit", (9,)))
        process.start()
        ready.wait()
        kill_and_wait(int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[1]))
        assert process.is_alive() and process.exitcode is None
        give(go.path)
        process.join(20)
        assert process.exitcode == 9
        process.close()


def test_the_template_ends_when_its_program_does_whichever_way_it_ends(tmp_path: Path):
    for ending in ("sys.exit(3)", "os._exit(4)", "os.kill(os.getpid(), 9)", "raise SystemExit", "1 / 0"):
        code = f"""
            import os, sys, warmfork
            from tests import targets
            template = warmfork.Template()
            template.start(targets.give, (1,)).result(20)
            {ending}
        """
        run_program(code, tmp_path, env={"PYTHONPATH": ROOT}, expect=None)  # it sees to it that nothing is left


def test_a_program_behind_a_pipe_lets_go_of_the_pipe_when_it_is_killed(tmp_path: Path):
    """Row 47b: helpers that keep the caller's stdout hang `prog | cat` until they die."""
    (tmp_path / "p.py").write_text(
        "import os, warmfork\nfrom tests import targets\nt = warmfork.Template()\n"
        "t.start(targets.give, (1,)).result(20)\nprint('ready', flush=True)\nos.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "p.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stdout) == (-9, b"ready\n")
