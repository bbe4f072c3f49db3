"""A template that is killed under a start: at whatever moment that is, the function runs exactly once (M2). And a client:
then what it has started ends as it wanted (M25)."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import warmfork
from tests import targets
from tests.running import ROOT, get_tracker
from tests.support import run_program, wait_until
from warmfork._client.channel import Channel
from warmfork._client.starting import PendingStart
from warmfork._machine import fds
from warmfork._machine.pending_kills import list_children

DIES = """
import os
def die():
    if not os.path.exists({path!r}):
        os.mkdir({path!r})
        os.kill(os.getpid(), 9)
os.register_at_fork(after_in_parent=die)
"""


def check(template: warmfork.Template, note: Path, generation: int) -> None:
    """Start something; it has run once, and nobody is left who was forked for it and is not known."""
    child = template.start(targets.append_line, (str(note), "ran"))
    child.result(20)
    assert child.wait(20) == warmfork.Exited(0)
    assert note.read_text() == "ran\n"
    assert template.start(targets.give, (1,)).result(20) == 1
    assert template.generation == generation
    wait_until(lambda: set(list_children(get_tracker())) == {template.pid}, 5.0, "the template alone")
    assert note.read_text() == "ran\n"


def test_killed_before_it_forks_it_has_a_successor_that_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    request, killed = Channel.request, []

    def ask_the_dying(channel: Channel, *arguments: object) -> bool:
        if killed:
            return request(channel, *arguments)
        killed.append(channel.pid)
        os.kill(channel.pid, signal.SIGSTOP)
        asked = request(channel, *arguments)
        os.kill(channel.pid, signal.SIGKILL)
        return asked

    with warmfork.Template(spares=0) as template:
        template.wait_ready()
        monkeypatch.setattr(Channel, "request", ask_the_dying)
        check(template, tmp_path / "note", 2)


def test_killed_when_it_has_forked_and_not_said_so_it_leaves_a_child_that_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "dies.py").write_text(DIES.format(path=str(tmp_path / "died")))
    with warmfork.Template(preload=["dies"], spares=0) as template:
        check(template, tmp_path / "note", 2)


def test_killed_when_its_child_was_given_the_call_it_leaves_a_child_that_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    feed, killed = PendingStart.feed, []

    def feed_and_kill(start: PendingStart, channel: Channel, *arguments: object) -> object:
        error = feed(start, channel, *arguments)
        if not killed:
            killed.append(channel.pid)
            os.kill(channel.pid, signal.SIGKILL)
            assert fds.wait_readable(channel.template, 20)
        return error

    with warmfork.Template(spares=0) as template:
        template.wait_ready()
        monkeypatch.setattr(PendingStart, "feed", feed_and_kill)
        check(template, tmp_path / "note", 2)


LATE = """
import os, select
from warmfork._child import birth
take, template = birth.take_policy, os.getpid()
def take_late(of):
    while os.path.exists(f"/proc/{template}"):
        select.select((), (), (), 0.1)
    take(of)
birth.take_policy = take_late
"""


def test_a_spare_that_hears_of_its_policy_when_template_and_client_are_buried_ends_by_itself(tmp_path: Path):
    """M25: neither the template nor the tracker has seen on the board that it is to end with its client."""
    (tmp_path / "late.py").write_text(LATE)
    code = """
        import os, signal, warmfork
        from tests import targets
        from warmfork._client.channel import Channel

        template = warmfork.Template(preload=["late"], spares=1)
        channel = template._get_channel(20)
        channel.wait_until(lambda: channel.children.spares, None)
        Channel.tell_spare_taken = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        template.start(targets.wait)
    """
    env = {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
    run_program(code, tmp_path, env=env, expect=-signal.SIGKILL, timeout=20)
