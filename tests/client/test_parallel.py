"""Threads that want different templates do not wait for each other's."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

import warmfork
from tests import targets
from tests.support import wait_until
from warmfork._client.client import get_client


def test_two_templates_come_up_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each preload waits for the other: the client's lock was held while one waited for its welcome."""
    # One reads the first pipe and writes to the second, the other the other way round.
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    os.mkfifo(first)
    os.mkfifo(second)
    begun = tmp_path / "begun"
    (tmp_path / "meets_one.py").write_text(
        f"open({str(begun)!r}, 'w').close()\nopen({first!r}).close()\nopen({second!r}, 'w').close()\n"
    )
    (tmp_path / "meets_other.py").write_text(f"open({first!r}, 'w').close()\nopen({second!r}).close()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with (
        warmfork.Template(["meets_one"], start_timeout=20) as one,
        warmfork.Template(["meets_other"], start_timeout=20) as other,
    ):
        answers: list[object] = []
        threads = [
            threading.Thread(
                target=lambda template=template: answers.append(template.start(targets.give, (1,)).result(20))
            )
            for template in (one, other)
        ]
        threads[0].start()
        wait_until(begun.exists)  # it is waited for now
        threads[1].start()
        for thread in threads:
            thread.join(60)
        assert answers == [1, 1]


def test_threads_that_want_one_template_have_one_channel_to_it():
    with warmfork.Template(name="shared") as template:
        at_once = threading.Barrier(8)
        pids: list[int] = []

        def ask() -> None:
            at_once.wait()
            pids.append(template.start(os.getppid).result(20))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert pids == [template.pid] * 8
        assert not get_client().opening
