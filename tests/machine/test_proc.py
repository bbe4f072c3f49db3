"""The open files of other processes, and of those that are gone or not to be looked at."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from warmfork._machine import proc


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL) as process:
        yield process
        process.kill()


def test_the_files_of_another_process_are_listed(other):
    assert proc.list_files(other.pid)[0] == "/dev/null"


def test_a_process_that_is_gone_shows_no_files(other):
    other.kill()
    other.wait()
    assert proc.list_files(other.pid) is None


def test_a_zombie_shows_no_files(other):
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert not proc.list_files(other.pid)
