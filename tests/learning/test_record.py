"""What was learnt of a program: bounds, hostile reports, and which modules are chosen."""

from __future__ import annotations

import os
import random
from pathlib import Path
from time import perf_counter

import pytest

from warmfork.learning import store, watch
from warmfork.learning.record import (
    BORN,
    LARGEST_REPORTS,
    MOST_MODULES,
    MOST_PRELOADED,
    Module,
    Record,
    read_reports,
    write_report,
)


def make_reports(**needed: int) -> bytes:
    """Reports of ten children, of which so many needed each module."""
    lines = [BORN] * 10
    for name, children in needed.items():
        lines += [write_report(1000 + child, name, 10.0, 1000, "") for child in range(children)]
    return b"".join(lines)


def learn(reports: bytes) -> Record:
    record = Record("app")
    record.merge(reports)
    return record


def test_what_half_of_the_children_needed_is_listed_and_what_fewer_needed_is_not():
    record = learn(make_reports(json=10, csv=5, decimal=4))
    assert {module.name for module in record.list_preload()} == {"json", "csv"}


def test_a_child_counts_once_however_often_it_reports():
    record = learn(BORN * 10 + write_report(7, "json", 10.0, 1, "") * 50)
    assert record.list_preload() == []


@pytest.mark.parametrize(
    "line",
    [
        b"1\t../../etc/passwd\t1.0\t1\t",
        b"1\tos;import evil\t1.0\t1\t",
        b"1\t__main__\t1.0\t1\t",
        b"1\twarmfork.cli\t1.0\t1\t",
        b"1\tjson\tnan\t1\t",
        b"1\tjson\tinf\t1\t",
        b"1\tjson\t-5\t1\t",
        b"1\tjson\t1.0\t-1\t",
        b"1\tjson\t1.0\t" + b"9" * 4000 + b"\t",
        b"x\tjson\t1.0\t1\t",
        b"1\t" + b"a" * 201 + b"\t1.0\t1\t",
        b"1\tjson\t1.0\t1",
        b"\xff\xfe\tjson\t1.0\t1\t",
        b"1\t\t1.0\t1\t",
    ],
)
def test_a_hostile_report_is_refused(line):
    assert read_reports(b"+\n" + line + b"\n") == (1, {})


def test_reports_are_bounded():
    many = b"".join(write_report(1, f"m{number}", 1.0, 1, "") for number in range(100_000))
    assert len(read_reports(many)[1]) <= MOST_MODULES
    assert read_reports(b"+\n" * LARGEST_REPORTS)[0] <= LARGEST_REPORTS // 2


def test_noise_is_never_more_than_no_report():
    dice = random.Random(7)
    for _ in range(300):
        read_reports(bytes(dice.choice(b"+\n\t.1aj\xff\x00") for _ in range(200)))


def test_no_more_is_listed_than_the_bounds_allow():
    names = [f"m{number}" for number in range(MOST_PRELOADED + 20)]
    assert len(learn(make_reports(**dict.fromkeys(names, 10))).list_preload()) == MOST_PRELOADED
    dear = learn(BORN + write_report(1, "dear", 30_000.0, 1, "") + write_report(1, "cheap", 5.0, 1, ""))
    assert [module.name for module in dear.list_preload()] == ["cheap"]


def test_what_opens_a_socket_is_left_out_with_the_reason():
    record = learn(BORN + write_report(1, "client", 50.0, 1, "s"))
    assert record.list_preload() == [] and record.modules["client"].reason == "it opens a socket"


def test_a_record_is_read_as_it_was_written():
    record = learn(make_reports(json=10, csv=2))
    record.modules["json"].reason = "it leaves\tthreads\nrunning"
    again = Record.read(record.write())
    assert again.write() == record.write()
    assert again.modules["json"].reason == "it leaves threads running"


@pytest.mark.parametrize(
    "text", ["", "no\n", "warmfork preload 1\napp\n1\t2\n", "warmfork preload 1\napp\n1\t2\t3\nx\n"]
)
def test_a_damaged_record_is_refused(text):
    with pytest.raises(ValueError):
        Record.read(text)


def test_a_module_whose_file_has_changed_is_forgotten():
    record = learn(make_reports(json=10, csv=10))
    record.forget_changed({"json": "1", "csv": "1"})
    record.forget_changed({"json": "2", "csv": "1"})
    assert [*record.modules] == ["csv"]


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> store.Store:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = store.Store("app")
    made.write(learn(make_reports(json=10)))
    assert made.read().modules
    return made


def damage(path: str) -> None:
    Path(path).write_bytes(os.urandom(500))


def cut(path: str) -> None:
    os.truncate(path, 30)


def grow(path: str) -> None:
    os.truncate(path, 1 << 30)


def open_to_all(path: str) -> None:
    os.chmod(path, 0o666)


def give_away(path: str) -> None:
    if os.geteuid():
        pytest.skip("only root can give a file away")
    os.chown(path, 12345, 12345)


def link(path: str) -> None:
    os.rename(path, path + ".other")
    os.symlink(path + ".other", path)


def make_pipe(path: str) -> None:
    os.unlink(path)
    os.mkfifo(path)


@pytest.mark.parametrize("spoil", [damage, cut, grow, open_to_all, give_away, link, make_pipe])
def test_a_file_that_is_damaged_or_not_this_users_alone_is_as_none(kept, spoil):
    spoil(kept.base + store.LEARNT)
    assert kept.read().modules == {}


def test_a_folder_that_others_can_write_to_is_not_used(kept):
    os.chmod(store.find_folder(), 0o777)
    with pytest.raises(PermissionError, match="is not this user's alone"):
        store.Store("app")


def test_a_report_costs_no_more_than_twice_its_system_calls(tmp_path):
    path = str(tmp_path / "reports")

    def report():
        look = watch.Look()
        look.began -= 1
        look.report(path, "json")

    def call_only():
        for _ in range(2):
            os.listdir("/proc/self/fd")
            os.stat("/proc/self/task")
            with open("/proc/self/statm", "rb", buffering=0) as file:
                file.read()
        fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.fstat(fd)
        os.write(fd, bytes(40))
        os.close(fd)

    best = {report: 1.0, call_only: 1.0}
    for _ in range(20):
        for function in best:
            Path(path).write_bytes(b"")
            began = perf_counter()
            for _ in range(50):
                function()
            best[function] = min(best[function], perf_counter() - began)
    assert best[report] < 2 * best[call_only]


def test_a_module_first_heard_of_late_is_judged_by_the_children_since_then():
    record = learn(BORN * 100)
    record.merge(BORN * 4 + b"".join(write_report(child, "json", 9.0, 1, "") for child in range(3)))
    assert [module.name for module in record.list_preload()] == ["json"]
    assert isinstance(record.modules["json"], Module)
