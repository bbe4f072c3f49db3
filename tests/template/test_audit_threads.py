"""Which threads the audit accuses: those that a fork would stop in the middle, each by its own name and origin."""

from __future__ import annotations

import _thread
import ctypes
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import warmfork
from tests import targets
from warmfork._template import preload

LIBC = ctypes.CDLL(None)


def start_native(name: bytes) -> None:
    """A thread that Python's threading does not know, as native libraries start them."""
    named = _thread.allocate_lock()
    named.acquire()
    for_ever = _thread.allocate_lock()
    for_ever.acquire()

    def run() -> None:
        if name:
            LIBC.prctl(15, name, 0, 0, 0)
        named.release()
        for_ever.acquire()

    _thread.start_new_thread(run, ())
    named.acquire()


def leave_thread() -> None:
    start_native(b"grpc-poller")


def leave_unnamed() -> None:
    start_native(b"")


def leave_jemalloc() -> None:
    start_native(b"jemalloc_bg_thd")


def test_each_thread_is_named_with_the_item_that_left_it(caplog: pytest.LogCaptureFixture):
    items = [f"{__name__}:leave_thread", f"{__name__}:leave_unnamed"]
    with warmfork.Template(preload=["json", *items, "sqlite3"], spares=0) as template:
        assert template.start(targets.give, (1,)).result(20) == 1
    assert f'"{items[0]}" left 1 thread(s) running: grpc-poller (native)' in caplog.text
    assert f'"{items[1]}" left 1 thread(s) running: a native thread' in caplog.text
    assert '"json" left' not in caplog.text and '"sqlite3" left' not in caplog.text
    assert "warmfork: templ" not in caplog.text


def test_a_thread_that_its_library_starts_again_after_a_fork_is_not_accused(caplog: pytest.LogCaptureFixture):
    with warmfork.Template(preload=[f"{__name__}:leave_jemalloc"], audit="refuse") as template:
        assert template.start(targets.give, (1,)).result(20) == 1
    assert caplog.text == ""


def leave_pump() -> None:
    """A thread, and an at-fork function: torch and matplotlib bring both, and no child minds."""
    stop = threading.Event()
    done = threading.Thread(target=stop.wait, daemon=True)
    done.start()
    os.register_at_fork(before=lambda: (stop.set(), done.join()), after_in_child=stop.clear)


def test_that_a_child_was_forked_to_look_is_told_to_those_who_ask(caplog: pytest.LogCaptureFixture):
    with caplog.at_level("INFO", "warmfork"), warmfork.Template(preload=[f"{__name__}:leave_pump"]) as template:
        assert template.start(targets.give, (1,)).result(20) == 1
    told = [record for record in caplog.records if "one child was forked to see which threads stay" in record.message]
    assert [record.levelname for record in told] == ["INFO"]
    assert [record.message for record in caplog.records if record.levelname != "INFO"] == []


def test_a_thread_that_a_fork_stops_is_not_accused_because_of_another_that_stays(monkeypatch):
    """numpy's OpenBLAS was named with whatever else ran."""
    notes = preload.Notes()
    running = {1: "a native thread"}
    monkeypatch.setattr(preload, "name_threads", lambda: dict(running))
    preload.note_threads("numpy", notes)
    running[2] = "arrow-io (native)"
    preload.note_threads("pyarrow", notes)
    del running[1]  # the throw-away fork
    assert preload.list_left(notes) == [("arrow-io (native)", "pyarrow")]


@pytest.mark.parametrize("first", ["pandas", "pyarrow"])
def test_pandas_and_pyarrow_are_not_accused(first: str, tmp_path: Path):
    for name in ("numpy", "pandas", "pyarrow"):
        pytest.importorskip(name)
    program = tmp_path / "program.py"
    program.write_text(
        f"import {first}, numpy, pandas, pyarrow, warmfork\n"
        "def work():\n    print(int(pandas.Series([1, 2]).sum()), len(pyarrow.array([1, 2])), flush=True)\n"
        "if __name__ == '__main__':\n    import logging; logging.basicConfig()\n"
        "    process = warmfork.get_context().Process(target=work)\n    process.start()\n    process.join()\n"
    )
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("3 2\n", "")
