"""Bad days: what an old, hardened or small system does not let us have costs speed only, and is logged once."""

from __future__ import annotations

import errno
import logging
import os

import pytest

import warmfork
from tests import crashing
from tests.support import wait_until
from warmfork._idle import pretouch
from warmfork._machine import calls
from warmfork._template import spares


def refuse_pagemap() -> None:
    """Preloaded: as under a kernel that shows no process its pages."""

    def list_touched() -> list[pretouch.Range]:
        raise PermissionError(errno.EPERM, "Operation not permitted", "/proc/self/pagemap")

    pretouch.list_touched = list_touched


def refuse(name: str, *which: object) -> None:
    original = calls.prepare

    def prepare(called, *arguments):  # type: ignore[no-untyped-def]
        refused = called == name and (not which or arguments[-1] in which)
        return (lambda: -1) if refused else original(called, *arguments)

    calls.prepare = prepare


def refuse_populate() -> None:
    """Preloaded: as on a kernel before 5.14."""
    refuse("madvise", pretouch.POPULATE_READ, pretouch.POPULATE_WRITE)


def refuse_clone() -> None:
    """Preloaded: as under a filter that refuses clone with flags that are no fork's and no thread's."""
    refuse("clone")


def refuse_ctypes() -> None:
    """Preloaded: as where Python was built without _ctypes."""

    def find(name: str) -> int:
        raise ImportError("No module named '_ctypes'")

    calls.find = find


def test_a_child_without_ctypes_has_no_fd_of_its_template_either():
    def count_fds(preload: list[str]) -> int:
        with warmfork.Template(preload, spares=0) as template:
            return len(template.start(os.listdir, ("/proc/self/fd",)).result(20))

    assert count_fds([f"{__name__}:refuse_ctypes"]) == count_fds([__name__])


def test_the_stack_of_a_crash_is_told_where_there_is_no_ctypes():
    with warmfork.Template([f"{__name__}:refuse_ctypes"], spares=0) as template:
        child = template.start(crashing.crash_here)
        outcome = child.wait(20)
        assert isinstance(outcome, warmfork.Signaled) and "in crash_here" in outcome.stack
        assert child.usage is not None, "its template has told all"


def be_strict() -> None:
    """Preloaded: as where each fork is charged the whole address space."""
    spares.is_commit_strict = lambda: True


@pytest.mark.parametrize(
    ("what", "logged"),
    [
        (refuse_pagemap, ["without pretouch: [Errno 1] Operation not permitted: '/proc/self/pagemap'"]),
        (refuse_populate, ["without pretouch: madvise(MADV_POPULATE_WRITE) fails (Linux 5.14 has it)"]),
        (refuse_clone, ["without helper: clone() is refused, so a death is known when the memory is torn down"]),
        (refuse_ctypes, ["without warm-up: ImportError: No module named '_ctypes'"]),
        (be_strict, ["without spares: vm.overcommit_memory=2 charges each for the whole address space"]),
    ],
)
def test_what_a_system_does_not_have_is_logged_once_and_children_start_all_the_same(what, logged, caplog):
    def start() -> bool:
        assert template.start(sum, ([1, 2],)).result(20) == 3
        return len(list_said()) >= len(logged)

    def list_said() -> list[str]:
        return [record.getMessage().partition(": ")[2] for record in caplog.records if record.name == "warmfork"]

    with caplog.at_level(logging.INFO, "warmfork"):
        preload = [f"{__name__}:{what.__name__}"]
        with warmfork.Template(preload, spares="auto") as template:
            wait_until(start, 20.0, "word of it")
            for _ in range(10):
                start()
        assert list_said() == logged
    assert {record.levelno for record in caplog.records if record.name == "warmfork"} == {logging.INFO}
