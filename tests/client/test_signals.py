"""Signals to children: exactly those, to exactly that process (rows 43 and 44, M22)."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

import warmfork
from tests import targets
from tests.signs import make_sign
from tests.support import wait_until


def test_a_handle_never_signals_a_later_process_with_the_child_s_pid():
    """Row 44: terminate() and kill() by a pid that was reaped long ago hit whoever has it now."""
    last_pid = Path("/proc/sys/kernel/ns_last_pid")
    try:
        last_pid.write_text(last_pid.read_text())
    except OSError:  # access() says that others may, too
        pytest.skip("only root can choose the next pid")
    context = warmfork.get_context(spares=0)
    with warmfork.Template(spares=0) as template:
        for _ in range(20):
            child = template.start(targets.give, (1,))
            process = context.Process(target=int)
            process.start()
            child.wait(20)
            process.join(20)
            wanted = child.pid
            last_pid.write_text(str(wanted - 1))
            stranger = subprocess.Popen(["sleep", "100"])
            if stranger.pid == wanted:
                break
            stranger.kill()
            stranger.wait()
        else:
            pytest.skip("somebody else was always quicker to take the pid")
        try:
            child.kill()
            child.terminate()
            child.send_signal(signal.SIGINT)
            assert stranger.poll() is None
            with pytest.raises(subprocess.TimeoutExpired):
                stranger.wait(0.1)
        finally:
            stranger.kill()
            stranger.wait()
        process.close()


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP, signal.SIGALRM, signal.SIGRTMIN + 3]
)
def test_a_child_takes_each_signal_as_a_fresh_process_would(tmp_path: Path, number: int):
    """The template blocks them all: a child must not inherit that."""
    with make_sign(tmp_path) as sign, warmfork.Template(preload=["tests.targets"]) as template:
        child = template.start(targets.sign_and_wait, (sign.path,))
        sign.wait()
        child.send_signal(number)
        outcome = child.wait(20)
        if number == signal.SIGINT:
            assert outcome == warmfork.Exited(1)
            with pytest.raises(KeyboardInterrupt):
                child.result(20)
        else:
            assert isinstance(outcome, warmfork.Signaled) and outcome.signal == number


def test_a_child_can_be_stopped_and_continued(tmp_path: Path):
    with make_sign(tmp_path) as ready, make_sign(tmp_path) as go, warmfork.Template() as template:
        child = template.start(targets.sign_wait_and_call, (ready.path, go.path, "os", "getpid", ()))
        ready.wait()
        child.send_signal(signal.SIGSTOP)
        wait_until(lambda: read_state(child.pid) == "T")
        assert child.outcome is None
        with open(go.path, "w") as fifo:
            fifo.write("go\n")
        with pytest.raises(TimeoutError):
            child.result(0.1)
        child.send_signal(signal.SIGCONT)
        assert child.result(20) == child.pid


def read_state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_core_dump_is_told():
    """Row 43: the signal, and whether a core was written, as the kernel says it."""
    with warmfork.Template() as template:
        child = template.start(targets.end_by, (signal.SIGQUIT,))
        outcome = child.wait(20)
        assert isinstance(outcome, warmfork.Signaled) and outcome.signal == signal.SIGQUIT
        assert outcome.core_dumped in (True, False)
