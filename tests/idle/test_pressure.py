"""Memory pressure: spares are the first to go, and are not missed (M25)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import warmfork
from tests.support import wait_until
from tests.template.test_spares import have_a_spare, list_spares
from warmfork._idle import pressure
from warmfork._machine import evidence, fds

GIB = 1 << 30


def make_group(folder: Path, *, limit: str, used: int, inactive: int) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {inactive}\nactive_file 7\n")
    return str(folder)


@pytest.mark.parametrize(
    ("limit", "used", "inactive", "scarce"),
    [
        (str(GIB), GIB // 2, 0, False),
        (str(GIB), GIB - 1000, 0, True),
        (str(GIB), GIB - 1000, GIB // 2, False),  # the kernel would give that back first
        ("max", GIB, 0, False),
    ],
)
def test_a_cgroup_close_to_its_limit_is_scarce(limit, used, inactive, scarce, tmp_path):
    folder = make_group(tmp_path / "group", limit=limit, used=used, inactive=inactive)
    assert pressure.is_group_scarce(folder, "") is scarce


def test_a_cgroup_of_version_1_is_read_by_its_own_names(tmp_path):
    (tmp_path / "memory.limit_in_bytes").write_text("1000000\n")
    (tmp_path / "memory.usage_in_bytes").write_text("990000\n")
    (tmp_path / "memory.stat").write_text("inactive_file 1\ntotal_inactive_file 5000\n")
    assert pressure.is_group_scarce(str(tmp_path), "memory")
    (tmp_path / "memory.stat").write_text("inactive_file 1\ntotal_inactive_file 500000\n")
    assert not pressure.is_group_scarce(str(tmp_path), "memory")


def test_a_cgroup_that_is_gone_is_not_scarce(tmp_path):
    assert not pressure.is_group_scarce(str(tmp_path / "gone"), "")


def test_limits_of_the_groups_above_count_too(tmp_path, monkeypatch):
    mount, read = tmp_path / "cgroup", fds.try_to_read
    make_group(mount / "app", limit=str(GIB), used=5, inactive=0)
    make_group(mount / "app" / "worker", limit="max", used=5, inactive=0)
    monkeypatch.setattr(evidence, "MOUNTS", {"": (str(mount),)})
    monkeypatch.setattr(
        fds, "try_to_read", lambda path, *size: groups if path.endswith("/cgroup") else read(path, *size)
    )
    groups = b"0::/app/worker\n"
    assert pressure.find_limits() == [(f"{mount}/app", "")]
    groups = b"0::/other\n9:name=systemd:/\n"
    assert pressure.find_limits() == []


def test_a_machine_with_nine_tenths_in_use_is_scarce(monkeypatch):
    for available, scarce in ((b"90", True), (b"200", False)):
        text = b"MemTotal:  1000 kB\nMemFree:  1 kB\nMemAvailable:  " + available + b" kB\n"
        monkeypatch.setattr(fds, "try_to_read", lambda path, text=text: text)
        assert pressure.is_scarce([]) is scarce


def test_a_kernel_that_tells_nothing_of_pressure_is_not_scarce(monkeypatch):
    monkeypatch.setattr(fds, "try_to_read", lambda path: b"")
    assert not pressure.is_scarce([])
    assert pressure.open_trigger("/nowhere/pressure") == -1


def claim_pressure() -> None:
    """Preloaded: memory is short from the moment on at which a file is there."""
    path = os.environ["WARMFORK_TEST_PRESSURE"]
    pressure.is_machine_scarce = lambda: os.path.exists(path)


def test_spares_go_when_memory_is_short_and_come_back_when_it_is_not(tmp_path, monkeypatch):
    short = tmp_path / "short"
    monkeypatch.setenv("WARMFORK_TEST_PRESSURE", str(short))
    with warmfork.Template(preload=[f"{__name__}:claim_pressure"], spares=2) as template:
        have_a_spare(template)
        wait_until(lambda: len(list_spares(template)) == 2, 20.0, "two spares")
        short.touch()
        assert template.start(sum, ([1, 2],)).result(20) == 3
        wait_until(lambda: not list_spares(template), 20.0, "their end")
        for number in range(3):
            assert template.start(sum, ([number],)).result(20) == number
        assert not list_spares(template)
        short.unlink()
        have_a_spare(template)
        assert template.start(sum, ([1, 2],)).result(20) == 3


def test_a_spare_that_is_taken_while_it_is_told_to_leave_is_a_child_all_the_same(tmp_path, monkeypatch):
    """M25: whoever was quicker is served, and who came too late gets another."""
    short = tmp_path / "short"
    monkeypatch.setenv("WARMFORK_TEST_PRESSURE", str(short))
    with warmfork.Template(preload=[f"{__name__}:claim_pressure"], spares=3) as template:
        for _ in range(10):
            have_a_spare(template)
            short.touch()
            # The first start wakes the template, which tells the others to leave while these are started.
            children = [template.start(sum, ([number],)) for number in range(4)]
            assert [child.result(20) for child in children] == [0, 1, 2, 3]
            short.unlink()


def test_a_spare_keeps_no_fd_of_what_tells_it_to_leave():
    def list_kinds(child: warmfork.Child[list[str]]) -> list[str]:
        return sorted(file.split(":")[0].rpartition("/")[2] for file in child.result(20))

    with warmfork.Template(spares=0) as plain, warmfork.Template(spares=1) as template:
        expected = list_kinds(plain.start(list_files))
        spare = have_a_spare(template)
        child = template.start(list_files)
        assert child.pid == spare.pid
        assert list_kinds(child) == expected


def list_files(pid: int | str = "self") -> list[str]:
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except FileNotFoundError:
            continue  # the folder's own, or closed meanwhile
    return found


@pytest.mark.skipif(pressure.open_trigger() < 0, reason="this kernel tells nobody of pressure (PSI)")
def test_the_kernel_is_asked_to_tell_of_pressure_once_there_are_spares():
    with warmfork.Template(spares=1) as template:
        have_a_spare(template)
        assert list_files(template.pid).count(pressure.PSI) == 1
