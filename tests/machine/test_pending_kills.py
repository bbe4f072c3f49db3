"""Ending a process with all that it has started, and what we may not end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests import targets
from tests.support import wait_until
from warmfork._machine import pending_kills

FAMILY = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", {inner!r}], start_new_session=True, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
signal.pause()
"""
STAYS = "import signal; signal.signal(15, signal.SIG_IGN); print(flush=True); signal.pause()"


def test_a_process_is_ended_with_its_descendants_though_they_ignore_sigterm():
    """It has a session of its own: no signal to a group would reach it."""
    parent = subprocess.Popen([sys.executable, "-c", FAMILY.format(inner=STAYS)], stdout=subprocess.PIPE, text=True)
    child = os.pidfd_open(int(parent.stdout.readline()))
    kills = pending_kills.PendingKills()
    kills.end(parent.pid)
    assert kills and not targets.is_dead(child)
    kills.due = dict.fromkeys(kills.due, 0.0)
    kills.descendants = [(0.0, pidfd) for _, pidfd in kills.descendants]
    kills.kill_due()
    assert not kills
    assert parent.wait(10) == -9
    wait_until(lambda: targets.is_dead(child))
    parent.stdout.close()
    os.close(child)


def test_a_process_that_is_stopped_takes_sigterm_all_the_same():
    """M22: it would not before it goes on, and be killed after the grace without having had one."""
    # In short rests: a signal that comes just before a long one would be seen after it.
    code = "import signal, time; signal.signal(15, lambda *_: exit(7)); print(flush=True)\nwhile True: time.sleep(0.05)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    process.stdout.readline()
    os.kill(process.pid, signal.SIGSTOP)
    kills = pending_kills.PendingKills()
    kills.end(process.pid)
    assert process.wait(10) == 7
    process.stdout.close()


def test_what_a_process_has_left_when_it_ended_by_itself_is_left_alone():
    parent = subprocess.Popen(
        [sys.executable, "-c", FAMILY.format(inner=STAYS).rpartition("signal.pause()")[0]],
        stdout=subprocess.PIPE,
        text=True,
    )
    pid = int(parent.stdout.readline())
    child = os.pidfd_open(pid)
    os.waitid(os.P_PID, parent.pid, os.WEXITED | os.WNOWAIT)
    kills = pending_kills.PendingKills()
    kills.end(parent.pid)
    kills.due = dict.fromkeys(kills.due, 0.0)
    kills.kill_due()
    assert not kills and not targets.is_dead(child)
    os.kill(pid, 9)
    wait_until(lambda: targets.is_dead(child))
    os.close(child)
    parent.stdout.close()
    parent.wait()


def test_a_process_that_we_may_not_end_is_said_once_and_costs_nobody_else(monkeypatch: pytest.MonkeyPatch):
    """A child has become sudo, or we have no CAP_KILL: it was the end of template and tracker."""
    parent = subprocess.Popen(["sleep", "1000"])

    def refuse(pid: int, number: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    said: list[str] = []
    kills = pending_kills.PendingKills(said.append)
    with monkeypatch.context() as patches:
        patches.setattr(pending_kills.os, "kill", refuse)
        kills.end(parent.pid)
        kills.due = dict.fromkeys(kills.due, 0.0)
        kills.kill_due()
    assert not kills
    assert said == [f"pid {parent.pid} was to end with its program, and can't be ended by us: Operation not permitted"]
    parent.kill()
    parent.wait()


def test_an_error_at_a_kill_comes_once_and_costs_the_others_nothing(monkeypatch: pytest.MonkeyPatch):
    """A loop calls kill_due() again at once for as long as somebody is due: an error that came each time was for ever."""
    families = [
        subprocess.Popen([sys.executable, "-c", FAMILY.format(inner=STAYS)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    children = [os.pidfd_open(int(parent.stdout.readline())) for parent in families]
    kills = pending_kills.PendingKills()
    for parent in families:
        kills.end(parent.pid)
    kills.due = dict.fromkeys(kills.due, 0.0)
    kills.descendants = [(0.0, pidfd) for _, pidfd in kills.descendants]
    failing = [families[0].pid, kills.descendants[0][1].fileno()]
    may = kills.may

    def fail(send: object, whom: int, number: int) -> bool:
        if whom in failing:
            raise RuntimeError(f"{whom} {number}")
        return may(send, whom, number)

    monkeypatch.setattr(kills, "may", fail)
    for whom in failing:
        with pytest.raises(RuntimeError, match=str(whom)):
            kills.kill_due()
    kills.kill_due()
    assert not kills
    assert families[1].wait(10) == -9
    wait_until(lambda: targets.is_dead(children[1]))
    for parent, child in zip(families, children, strict=True):
        parent.kill()
        parent.wait()
        parent.stdout.close()
        if not targets.is_dead(child):
            signal.pidfd_send_signal(child, 9)
        os.close(child)
