"""Ending processes: one that may not be ended costs the others nothing."""

from __future__ import annotations

import os
import subprocess

import pytest

from warmfork._machine import pending_kills
from warmfork._machine.pending_kills import PendingKills


@pytest.mark.parametrize("error", [PermissionError, ProcessLookupError])
def test_a_process_that_may_not_be_ended_costs_the_others_nothing(monkeypatch: pytest.MonkeyPatch, error):
    """A child that became sudo runs as another user."""
    first, second = (subprocess.Popen(["sleep", "60"]) for _ in range(2))
    kill = os.kill

    def kill_or_fail(pid: int, number: int) -> None:
        if pid == first.pid:
            raise error
        kill(pid, number)

    monkeypatch.setattr(os, "kill", kill_or_fail)
    monkeypatch.setattr(pending_kills, "GRACE", 0.0)
    ending = PendingKills()
    try:
        for process in (first, second):
            ending.end(process.pid)
        ending.kill_due()
        assert not ending
        assert second.wait(10) in (-15, -9)
    finally:
        monkeypatch.undo()
        first.kill()
        first.wait()
