"""What the kernel has killed for memory: which files count it, and what a change of theirs is told as."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from warmfork._machine import evidence

EVENTS = "low 0\nhigh 0\nmax 12\noom 3\noom_kill {}\noom_group_kill 0\n"


@pytest.fixture
def counters(tmp_path: Path, monkeypatch) -> list[Path]:
    """Two files that count, as those of a cgroup and of the machine."""
    paths = [tmp_path / "memory.events", tmp_path / "vmstat"]
    for path in paths:
        path.write_text(EVENTS.format(4))
    monkeypatch.setattr(evidence, "find_counters", lambda: [str(path) for path in paths])
    monkeypatch.setattr(evidence, "MACHINE", str(paths[1]))
    return paths


def test_a_count_is_read_from_what_the_kernel_writes(tmp_path: Path):
    path = tmp_path / "file"
    path.write_text(EVENTS.format(17))
    assert evidence.read_count(str(path)) == 17
    path.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")  # memory.oom_control of version 1
    assert evidence.read_count(str(path)) == 2
    path.write_text("oom_kill_disable 0\n")  # a kernel before 4.13
    assert evidence.read_count(str(path)) == -1
    assert evidence.read_count(str(tmp_path / "none")) == -1
    assert evidence.read_count(str(tmp_path)) == -1


def test_this_process_s_own_counters_are_found():
    found = evidence.find_counters()
    assert all(evidence.read_count(path) >= 0 for path in found)
    if evidence.read_count("/proc/vmstat") >= 0:
        assert found[-1] == "/proc/vmstat"


def test_a_kill_that_no_counter_has_seen_is_told_as_nothing(counters):
    assert evidence.Witness().ask(9, 1, -1) == ("", "")


def test_a_kill_that_the_cgroup_has_counted_is_told_with_the_file_and_once(counters):
    witness = evidence.Witness()
    counters[0].write_text(EVENTS.format(5))
    counters[1].write_text(EVENTS.format(5))
    stack, why = witness.ask(9, 1, -1)
    assert stack == "" and why.startswith("killed for memory") and "its cgroup" in why and str(counters[0]) in why
    assert witness.ask(9, 1, -1) == ("", "")


def test_a_kill_that_only_the_machine_has_counted_is_told_as_that(counters):
    witness = evidence.Witness()
    counters[1].write_text(EVENTS.format(6))
    assert "2 more time(s) in this machine" in witness.ask(9, 1, -1)[1]


def test_a_death_by_another_signal_or_a_counter_that_is_gone_is_told_as_nothing(counters):
    witness = evidence.Witness()
    os.unlink(counters[0])
    assert witness.ask(9, 1, -1) == ("", "")
    counters[1].write_text(EVENTS.format(6))
    assert witness.ask(15, 1, -1) == ("", "")
    assert witness.ask(0, 1, -1) == ("", "")
    assert witness.ask(11, 1, -1) == ("", "")
