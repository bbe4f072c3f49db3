"""Names are removed by the tracker, with its rights: nobody has it remove what he may not remove himself."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import warmfork
from tests import targets
from tests.support import wait_until
from tests.tracker.test_succession import read_names
from warmfork._client.client import get_client

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities to give up")


def drop_capabilities() -> None:
    libc = ctypes.CDLL(None)
    for number in range(41):
        libc.prctl(24, number, 0, 0, 0)  # PR_CAPBSET_DROP
    assert libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), bytes(24)) == 0


def give_up_privileges() -> None:
    assert ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) == 0


def filter_calls() -> None:
    allow = (ctypes.c_uint64 * 1)(0x7FFF0000 << 32 | 0x06)
    program = (ctypes.c_uint64 * 2)(1, ctypes.addressof(allow))
    give_up_privileges()
    assert ctypes.CDLL(None).prctl(22, 2, ctypes.byref(program), 0, 0) == 0


def track_all(change: Callable[[], None] | None, folder: str) -> None:
    """Track what is there, each as it can be, and end; after one that is one's own, which is no reason to be believed."""
    warmfork.track(f"{folder}/own", "file", scope="process")
    if change is not None:
        change()
    warmfork.track(f"{folder}/file", "file", scope="process")
    warmfork.track(f"{folder}/for the tree", "file", scope="tree")
    warmfork.track(f"{folder}/folder", "folder", scope="process")
    os._exit(0)


@pytest.mark.parametrize(
    "change", [pytest.param(drop_capabilities, marks=root_only), give_up_privileges, filter_calls, None]
)
def test_who_has_given_up_rights_has_no_file_removed_and_that_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: Callable[[], None] | None
):
    for name in ("own", "file", "for the tree"):
        (tmp_path / name).write_text("x")
    (tmp_path / "folder").mkdir()
    with warmfork.Template(["tests.attacks.test_deputy"], spares=0) as template:
        pid = template.start(targets.give, (1,)).pid
        child = template.start(track_all, (change, str(tmp_path)))
        pid = child.pid
        child.wait(20)
        wait_until(lambda: not (tmp_path / "own").exists())
        template.start(targets.give, (2,)).result(20)
        entry = ("file", str(tmp_path / "for the tree"))
        if change is None:
            wait_until(lambda: os.listdir(tmp_path) == ["for the tree"])
            assert entry in read_names(), "though it has ended at once"
            warmfork.untrack(tmp_path / "for the tree", "file")
            return
        get_client().log_reports()
        assert sorted(os.listdir(tmp_path)) == ["file", "folder", "for the tree"]
        assert entry not in read_names()
        (said,) = [text for text in caplog.messages if "may not have files removed" in text]
        assert f"pid {pid} " in said and repr(str(tmp_path / "file")) in said
