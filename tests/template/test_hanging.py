"""Templates and births that hang are told from those that are slow or stopped, and are ended (M18)."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import warmfork
from tests import targets
from tests.support import wait_until

HANGS = """
import os, signal
def hang():
    if os.path.exists({flag!r}):
        open({flag!r} + "-seen", "w").close()
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        signal.pause()
os.register_at_fork({when}=hang)
"""


@pytest.fixture
def flag(tmp_path: Path, monkeypatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "hang"


def test_a_template_that_hangs_in_a_fork_is_replaced_and_the_start_gets_its_child(tmp_path: Path, flag: Path, caplog):
    (tmp_path / "hangs_before.py").write_text(HANGS.format(flag=str(flag), when="before"))
    with warmfork.Template(preload=["hangs_before"], spares=0) as template:
        assert template.start(targets.give, (1,)).result(20) == 1
        first = template.pid
        flag.touch()
        answers: list[object] = []
        thread = threading.Thread(target=lambda: answers.append(template.start(targets.give, (2,)).result(30)))
        pidfd = os.pidfd_open(first)
        thread.start()
        wait_until(lambda: flag.with_name("hang-seen").exists())
        flag.unlink()  # the next generation is to be well
        thread.join(30)
        assert answers == [2]
        assert targets.is_dead(pidfd)
        os.close(pidfd)
        assert template.generation == 2
    assert any("hung in a fork" in record.message for record in caplog.records if record.name == "warmfork.tracker")


CRASHES = """
import os
def crash():
    if os.path.exists({flag!r}):
        os.unlink({flag!r})
        os.write(2, b"free(): invalid pointer\\n")
        os.abort()
os.register_at_fork(before=crash)
"""


def test_the_last_words_of_a_template_that_crashes_are_logged_with_its_death(tmp_path: Path, flag: Path, caplog):
    """M26: what glibc says of a broken heap must not go to /dev/null."""
    (tmp_path / "crashes.py").write_text(CRASHES.format(flag=str(flag)))
    with warmfork.Template(preload=["crashes"], spares=0, name="app") as template:
        assert template.start(targets.give, (1,)).result(20) == 1
        pid = template.pid
        flag.touch()
        assert template.start(targets.give, (2,)).result(20) == 2, "by the next generation"
        assert template.generation == 2
    (text,) = [record.message for record in caplog.records if record.name == "warmfork.tracker"]
    assert text.startswith(f"template app gen=1 (pid {pid}) died: killed by SIGABRT")
    assert text.endswith("It wrote:\nfree(): invalid pointer")


STOPS = """
import os, signal
def stop():
    if os.path.exists({flag!r}):
        os.kill(os.getpid(), signal.SIGSTOP)
os.register_at_fork(before=stop)
"""


@pytest.mark.parametrize("where", ["between requests", "in a fork"])
def test_a_template_that_is_stopped_is_waited_for(tmp_path: Path, flag: Path, where: str):
    (tmp_path / "stops.py").write_text(STOPS.format(flag=str(flag)))
    with warmfork.Template(preload=["stops"], spares=0) as template:
        assert template.start(targets.give, (1,)).result(20) == 1
        if where == "in a fork":
            flag.touch()
        else:
            os.kill(template.pid, signal.SIGSTOP)
        answers: list[object] = []
        thread = threading.Thread(target=lambda: answers.append(template.start(targets.give, (2,)).result(30)))
        thread.start()
        thread.join(7)  # longer than it takes until a template is suspected
        assert thread.is_alive() and not answers
        flag.unlink(missing_ok=True)
        os.kill(template.pid, signal.SIGCONT)
        thread.join(30)
        assert answers == [2]
        assert template.generation == 1


def test_a_birth_that_hangs_is_ended_and_the_step_is_told(tmp_path: Path, flag: Path, monkeypatch):
    (tmp_path / "hangs_after.py").write_text(HANGS.format(flag=str(flag), when="after_in_child"))
    monkeypatch.setenv("WARMFORK_BIRTH_TIMEOUT", "0.5")
    with warmfork.Template(preload=["hangs_after"], spares=0) as template:
        assert template.start(targets.give, (1,)).result(20) == 1
        flag.touch()
        child = template.start(targets.give, (2,))
        outcome = child.wait(20)
        assert outcome == warmfork.Signaled(signal.SIGKILL)
        assert outcome.why == 'it hung while it was set up, in the step "fork", and its template killed it'
        with pytest.raises(warmfork.ChildError, match="hung while it was set up"):
            child.result()
        flag.unlink()
        assert template.start(targets.give, (3,)).result(20) == 3
        assert template.generation == 1


def test_a_payload_may_take_as_long_as_it_likes(tmp_path: Path, monkeypatch):
    """It is the user's: it may import a whole program."""
    monkeypatch.setenv("WARMFORK_BIRTH_TIMEOUT", "0.2")
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with warmfork.Template(spares=0) as template:
        child = template.start(targets.Late.give, (targets.Late(str(path), 5),))
        with pytest.raises(TimeoutError):
            child.wait(1.0)
        path.write_text("go\n")
        assert child.result(20) == 5


def kill_before_it_serves(template: warmfork.Template) -> None:
    template.wait_ready()
    pidfd = os.pidfd_open(template.pid)
    os.kill(template.pid, signal.SIGKILL)
    wait_until(lambda: targets.is_dead(pidfd))
    os.close(pidfd)


def test_a_template_that_keeps_dying_is_given_up_for_a_while():
    with warmfork.Template(name="dies") as template:
        for _ in range(5):
            kill_before_it_serves(template)
        with pytest.raises(warmfork.TemplateDied, match="5 times") as caught:
            template.start(targets.give, (1,))
        assert caught.value.outcome == warmfork.Signaled(signal.SIGKILL)


def test_a_template_that_serves_may_die_as_often_as_it_likes():
    with warmfork.Template(name="serves") as template:
        for number in range(7):
            assert template.start(targets.give, (number,)).result(20) == number
            kill_before_it_serves(template)
        assert template.start(targets.give, (1,)).result(20) == 1


def test_a_context_falls_back_to_spawn_with_one_warning_and_ps_shows_it(tmp_path: Path):
    from tests.running import ROOT
    from tests.support import run_program

    code = """
        import os, select, subprocess, sys, warnings, warmfork

        def tell():
            print("child", flush=True)

        if __name__ == "__main__":
            context = warmfork.get_context(name="dies")
            for _ in range(5):
                context.wait_ready()
                pid = context.template_pid
                pidfd = os.pidfd_open(pid)
                os.kill(pid, 9)
                select.select([pidfd], [], [])
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                for _ in range(2):
                    process = context.Process(target=tell)
                    process.start()
                    process.join()
                    print(process.exitcode, flush=True)
            print([warning.category.__name__ for warning in caught if "spawn" in str(warning.message)], flush=True)
            print(subprocess.run([sys.executable, "-m", "warmfork", "ps", "--json"], capture_output=True, text=True).stdout)
    """
    done = run_program(code, tmp_path, env={"PYTHONPATH": ROOT})
    assert done.stdout.startswith("child\n0\nchild\n0\n['RuntimeWarning']\n"), done
    assert "[1 broken template]" in done.stdout
