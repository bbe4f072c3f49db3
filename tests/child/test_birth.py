"""Birth: a step that fails is told, with its traceback, to whoever started the child."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

import warmfork
from tests import targets
from warmfork._child import birth
from warmfork._machine import sockets

BREAKS = """
from warmfork._child import birth
def fail(born):
    raise OSError(22, "not on this day", "{name}")
def arm():
    birth.STEPS = tuple((name, fail if name == "{name}" else step) for name, step in birth.STEPS)
"""

AFTER_THE_FEED = [name for name, _ in birth.STEPS[[name for name, _ in birth.STEPS].index("feed") + 1 :]]


@pytest.fixture(params=AFTER_THE_FEED)
def broken(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A step of birth that fails in every child of templates that preload "breaks:arm"."""
    name: str = request.param
    (tmp_path / "breaks.py").write_text(BREAKS.format(name=name))
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_the_parent_learns_the_step_and_the_traceback(broken: str):
    with warmfork.Template(preload=["breaks:arm"], spares=0) as template:
        child = template.start(targets.give, (1,))
        with pytest.raises(warmfork.ChildError, match="not on this day") as caught:
            child.result(20)
        assert broken in caught.value.detail and "Traceback" in caught.value.detail
        assert child.outcome == warmfork.Exited(1)
        assert template.generation == 1


def test_a_process_has_exit_code_1_and_the_traceback_on_stderr(broken: str, capfd: pytest.CaptureFixture[str]):
    context = warmfork.get_context(preload=["breaks:arm"], spares=0)
    process = context.Process(target=targets.give, args=(1,))
    process.start()
    process.join(20)
    assert process.exitcode == 1
    process.close()
    if broken != "stdio":  # before that, stderr is not its client's
        assert f"[Errno 22] not on this day: '{broken}'" in capfd.readouterr().err


def test_a_state_that_can_not_be_had_is_named(monkeypatch: pytest.MonkeyPatch):
    """Each part of the state that the kernel refuses says which one it is."""
    monkeypatch.setattr("warmfork._machine.state.OOM_SCORE", SimpleNamespace(read=lambda size: b"no number"))
    with warmfork.Template(spares=0) as template:
        with pytest.raises(warmfork.ChildError, match="oom_score_adj"):
            template.start(targets.give, (1,)).result(20)


def test_a_feed_is_waited_for_also_where_sockets_do_not_block():
    """As after socket.setdefaulttimeout(), or where a fork of the client has set O_NONBLOCK."""
    ours, theirs = sockets.make_pair()
    ours.setblocking(False)
    sender = threading.Timer(0.05, sockets.send, (theirs, b"late"))
    sender.start()
    try:
        assert birth.receive_whole(ours, (-1, -1)).data == b"late"
    finally:
        sender.join()
        ours.close()
        theirs.close()


@pytest.mark.parametrize("spares", [0, 1])
def test_a_signal_that_comes_while_a_child_is_set_up_waits_for_what_its_client_has_made_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spares: int
):
    """M12: until then it would do what the template has made of it, and end the child."""
    fifo = tmp_path / "fifo"
    monkeypatch.setenv("WARM_FIFO", str(fifo))
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        with warmfork.Template(preload=["tests.warm:wait_in_state"], spares=spares) as template:
            channel = template._get_channel(20)
            channel.wait_until(lambda: len(channel.children.spares) == spares, None)
            os.mkfifo(fifo)
            child = template.start(targets.give, (1,))
            with open(fifo, "w") as go:  # when it is there
                os.kill(child.pid, signal.SIGUSR1)
                go.write("\n")
            assert child.result(20) == 1
    finally:
        signal.signal(signal.SIGUSR1, before)
