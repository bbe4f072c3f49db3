"""A template is replaced by a fresh one when it is told to, or when files have changed."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import threading
from pathlib import Path

import pytest

import warmfork
from tests import targets
from tests.signs import make_sign
from tests.support import wait_until
from warmfork.api import freshness


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "changing.py"
    write(path, 1)
    return path


LENGTHS = itertools.count()


def write(path: Path, value: object) -> None:
    """Write a module, each time of another length: what was written in the same second is hidden by the bytecode of the one
    before otherwise."""
    made = path.with_suffix(".new")
    made.write_text(f"value = {value}\n" + "#" * next(LENGTHS))
    made.replace(path)


def read_value() -> object:
    import changing

    return changing.value


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each start looks."""
    monkeypatch.setattr(freshness, "PAUSE", 0.0)


def test_restart_reads_files_anew_and_children_of_the_old_template_run_on(module, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    with warmfork.Template(preload=["changing"]) as template, make_sign(tmp_path) as sign:
        child = template.start(targets.sign_and_wait, (sign.path,))
        sign.wait()
        old = template.pid
        write(module, 2)
        assert template.start(read_value).result(20) == 1
        template.restart()
        assert template.pid != old
        assert template.start(read_value).result(20) == 2
        assert child.is_running() and Path(f"/proc/{old}").exists()
        child.kill()
        child.wait(20)
        template.start(read_value).result(20)
        wait_until(lambda: not Path(f"/proc/{old}").exists())


def test_stop_ends_the_templates_that_were_replaced_and_their_children(module, tmp_path):
    with warmfork.Template(preload=["changing"]) as template, make_sign(tmp_path) as sign:
        child = template.start(targets.sign_and_wait, (sign.path,))
        sign.wait()
        old = template.pid
        template.restart()
        new = template.pid
    assert not child.is_running()
    assert is_dead(old) and is_dead(new)


def test_stop_waits_for_a_replaced_template_that_is_slow_to_end(module):
    with warmfork.Template(preload=["changing"]) as template:
        template.wait_ready()
        old = template.pid
        os.kill(old, signal.SIGSTOP)
        template.restart()
        later = threading.Timer(0.2, os.kill, (old, signal.SIGCONT))
        later.start()
    assert is_dead(old)
    later.join()


def is_dead(pid: int | None) -> bool:
    """Has a process ended? Its parent, the tracker, may not have reaped it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):  # reaped, the second while it was being read
        return True


def test_a_restart_that_fails_raises_and_the_old_template_serves_on(module):
    with warmfork.Template(preload=["changing"]) as template:
        template.wait_ready()
        old = template.pid
        write(module, "1 / 0")
        with pytest.raises(warmfork.PreloadError, match="ZeroDivisionError"):
            template.restart()
        assert (template.pid, template.start(read_value).result(20)) == (old, 1)


def test_a_template_that_was_stopped_is_not_restarted(module):
    template = warmfork.Template(preload=["changing"])
    template.stop()
    with pytest.raises(ValueError, match="was stopped"):
        template.restart()


def test_restart_starts_a_template_that_has_not_run(module):
    with warmfork.Template(preload=["changing"]) as template:
        template.restart()
        assert template.pid and template.start(read_value).result(20) == 1


def test_check_has_a_fresh_template_once_a_file_has_changed(module, at_once):
    with warmfork.Template(preload=["changing"], reload="check") as template:
        assert [template.start(read_value).result(20) for _ in range(3)] == [1, 1, 1]
        old = template.pid
        assert template.pid == old
        write(module, 2)
        assert template.start(read_value).result(20) == 2
        assert template.pid != old


def test_check_looks_at_what_preloaded_modules_import(module, at_once, tmp_path):
    (tmp_path / "outer.py").write_text("import changing\n")
    with warmfork.Template(preload=["outer"], reload="check") as template:
        assert [template.start(read_value).result(20) for _ in range(2)] == [1, 1]
        write(module, 2)
        assert template.start(read_value).result(20) == 2


def test_check_sees_a_file_that_was_written_while_the_template_preloaded(module, at_once, tmp_path):
    tail = f"\nimport os\nos.utime({str(module)!r})\n"
    (tmp_path / "outer.py").write_text("import changing" + tail)
    with warmfork.Template(preload=["outer"], reload="check") as template:
        template.wait_ready()
        old = template.pid
        template.start(read_value).result(20)
        assert template.pid != old


def test_a_reload_that_fails_keeps_the_old_template_and_is_logged_once_for_each_change(module, at_once, caplog):
    """N77."""
    with warmfork.Template(preload=["changing"], reload="check") as template:
        assert [template.start(read_value).result(20) for _ in range(2)] == [1, 1]
        write(module, "1 / 0")
        assert [template.start(read_value).result(20) for _ in range(3)] == [1, 1, 1]
        (line,) = [record.message for record in caplog.records if "serves on" in record.message]
        assert "changing.py changed" in line and "ZeroDivisionError" in line
        write(module, 3)
        assert template.start(read_value).result(20) == 3


def test_never_logs_a_change_once(module, at_once, caplog):
    with warmfork.Template(preload=["changing"]) as template:
        assert [template.start(read_value).result(20) for _ in range(2)] == [1, 1]
        write(module, 2)
        assert [template.start(read_value).result(20) for _ in range(3)] == [1, 1, 1]
    (line,) = [record.message for record in caplog.records if "changed" in record.message]
    assert str(module) in line and "reload='check'" in line


def test_files_are_looked_at_no_more_than_once_a_second(module, monkeypatch):
    """N77."""
    looks, now = [], [0.0]
    monkeypatch.setattr(freshness, "monotonic", lambda: now[0])
    find_changes = freshness.Freshness.find_changes
    monkeypatch.setattr(
        freshness.Freshness, "find_changes", lambda self, _: looks.append(now[0]) or find_changes(self, dict)
    )
    with warmfork.Template(preload=["changing"], reload="check") as template:
        for now[0] in (0.0, 0.9, 1.0, 1.9, 2.5):
            template.start(read_value).result(20)
    assert looks == [1.0, 2.5]


def test_run_and_arun_have_the_fresh_template_too(module, at_once):
    with warmfork.Template(preload=["changing"], reload="check") as template:
        code = "import changing\nchanging.value"
        assert [template.run(code).result for _ in range(2)] == [1, 1]
        write(module, 2)
        assert template.run(code).result == 2
        write(module, 3)
        done = asyncio.run(template.arun(code))
        assert done.result == 3


def test_reload_is_never_or_check():
    with pytest.raises(ValueError, match="reload is one of 'never', 'check', not 'watch'"):
        warmfork.Template(reload="watch")


def test_a_file_that_is_gone_is_not_as_it_was(tmp_path):
    path = tmp_path / "x"
    path.write_text("1")
    before = freshness.stamp(str(path))
    os.unlink(path)
    assert freshness.stamp(str(path)) == freshness.GONE != before
