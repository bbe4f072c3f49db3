"""Huge pages: which blocks of a template's heaps are collapsed, when, and what is when the kernel will not."""

from __future__ import annotations

import errno
import logging
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import warmfork
from tests.support import wait_until
from warmfork._idle import collapse
from warmfork._idle.idle import Idle
from warmfork._machine import calls
from warmfork.cli.share import read_share

HEAVY = "held = [bytes(1000) for _ in range(60_000)]\n"
"""A module of 60 MB, of which each page is there."""


@pytest.fixture
def heavy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "heavy_heap.py").write_text(HEAVY)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "heavy_heap"


def has_collapse() -> bool:
    """Does this kernel collapse a block when it is told to?"""
    if not os.path.exists(collapse.SIZE):
        return False
    import mmap

    size = int(Path(collapse.SIZE).read_text())
    block = mmap.mmap(-1, 2 * size, flags=mmap.MAP_PRIVATE)
    block.write(b"x" * (2 * size))
    where = [start for start, end in collapse.list_heaps() if end - start >= 2 * size]
    found = collapse.Blocks([(start + size - 1) // size * size for start in where], size)
    while found:
        found.collapse_one()
    block.close()
    return found.collapsed > 0


needs_collapse = pytest.mark.skipif(not has_collapse(), reason="this kernel has no MADV_COLLAPSE (6.1)")


def get_huge(pid: int) -> float:
    return read_share(pid).huge / 1024


@needs_collapse
def test_a_heap_is_on_huge_pages_before_the_first_child_where_that_is_asked_for(heavy):
    with warmfork.Template(preload=[heavy], huge_pages=True, spares=0) as template:
        template.wait_ready()
        assert get_huge(template.pid) > 40
        assert template.start(sum, ([1, 2],)).result(20) == 3


@needs_collapse
def test_a_heap_is_on_huge_pages_when_its_template_has_been_idle(heavy):
    with warmfork.Template(preload=[heavy], huge_pages="auto") as template:
        for _ in range(3):
            template.start(os.getpid).result(20)
        wait_until(lambda: get_huge(template.pid) > 40, 20.0, "huge pages")
        assert template.start(sum, ([1, 2],)).result(20) == 3


def test_a_heap_stays_as_it_is_where_that_is_asked_for(heavy):
    with warmfork.Template(preload=[heavy], huge_pages=False, spares=0) as template:
        for _ in range(3):
            template.start(os.getpid).result(20)
        assert get_huge(template.pid) == 0


@needs_collapse
def test_children_of_huge_pages_share_what_they_do_not_write(heavy):
    with warmfork.Template(preload=[heavy], huge_pages=True, spares=0) as template:
        template.wait_ready()
        uss, shared = template.start(measure_after_a_write, (heavy,)).result(20)
        assert shared > 40 and uss < shared / 2


def measure_after_a_write(name: str) -> tuple[float, float]:
    sys.getrefcount(sys.modules[name].held)  # a reference to the list is a write to one page of it
    share = read_share(os.getpid())
    return share.uss / 1024, share.shared / 1024


def make_blocks(result: int, count: int, monkeypatch: pytest.MonkeyPatch) -> collapse.Blocks:
    monkeypatch.setattr(calls, "prepare", lambda *arguments: lambda: result)
    monkeypatch.setattr(collapse, "is_dense", lambda address, size: True)
    return collapse.Blocks(list(range(count)), 2 << 20)


def test_a_block_that_can_not_be_collapsed_is_tried_twice_and_costs_the_others_nothing(monkeypatch):
    """A child that is dying at that moment still counts as a user of the block: a moment later it does not."""
    tried: list[int] = []

    def prepare(name, address, size, advice):  # type: ignore[no-untyped-def]
        tried.append(address)
        return lambda: -1 if address in (2, 3) and tried.count(address) < (2 if address == 2 else 9) else 0

    monkeypatch.setattr(calls, "prepare", prepare)
    monkeypatch.setattr(calls, "make_pointer", lambda address: address)
    monkeypatch.setattr(collapse, "is_dense", lambda address, size: True)
    blocks = collapse.Blocks([1, 2, 3, 4], 2 << 20)
    while blocks:
        blocks.collapse_one()
    assert (blocks.collapsed, blocks.failed) == (3, 3)
    assert sorted(tried) == [1, 2, 2, 3, 3, 4] and tried[:4] == [4, 3, 2, 1]


@pytest.mark.parametrize("missing", ["size", "pagemap"])
def test_a_kernel_without_what_it_takes_is_told_of_once_and_costs_nothing_else(missing, monkeypatch):
    """Bad days: no transparent huge pages, no pagemap."""
    idle = Idle(State(0), SimpleNamespace(), SimpleNamespace(), lambda: None)
    told: list[str] = []
    monkeypatch.setattr(idle, "tell", told.append)
    idle.collapses, idle.warmed = True, True
    if missing == "size":
        monkeypatch.setattr(collapse, "SIZE", "/nowhere/hpage_pmd_size")
    else:
        idle.blocks = collapse.Blocks([1 << 30], 2 << 20)

        def refuse(path, *arguments):  # type: ignore[no-untyped-def]
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)

        monkeypatch.setattr(collapse.os, "open", refuse)
    idle.use()
    (note,) = told
    assert note.startswith("without huge pages: ")
    assert idle.get_due() is None, "it is not tried again"


def refuse_collapse() -> None:
    """Preloaded: as on a kernel before 6.1."""
    from warmfork._machine import calls

    original = calls.prepare

    def prepare(name, *arguments):  # type: ignore[no-untyped-def]
        return (lambda: -1) if arguments[-1] == collapse.COLLAPSE else original(name, *arguments)

    calls.prepare = prepare


def test_an_old_kernel_is_logged_and_children_start_all_the_same(heavy, caplog):
    with caplog.at_level(logging.INFO, "warmfork"):
        with warmfork.Template(preload=[heavy, f"{__name__}:refuse_collapse"], spares=1, huge_pages="auto") as template:

            def is_told() -> bool:
                assert template.start(sum, ([1, 2],)).result(20) == 3
                return any("huge pages" in record.message for record in caplog.records)

            wait_until(is_told, 20.0, "word of it")
    assert len([record for record in caplog.records if "huge pages" in record.message]) == 1


class State:
    """As much of a template's state as Idle asks for."""

    def __init__(self, started: int) -> None:
        self.spec = SimpleNamespace(without=(), preload=())
        self.children: dict[int, object] = dict.fromkeys(range(started))
        self.clients: set[object] = set()
        self.titled, self.starts, self.busy, self.latest = started, 5, 0.0, 0
        self.wanted: list[str] = []


def test_nothing_is_collapsed_while_a_child_lives_that_would_keep_the_old_pages(monkeypatch):
    for started, left in ((1, 3), (0, 2)):
        idle = Idle(State(started), SimpleNamespace(), SimpleNamespace(), lambda: None)
        idle.warmed = idle.collapses = True
        idle.blocks = make_blocks(0, 3, monkeypatch)
        assert (idle.get_due() is not None) == (left == 2)
        idle.use()
        assert len(idle.blocks.addresses) == left
