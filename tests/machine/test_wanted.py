"""What a template loads because its client has it: of a fixed table, and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from warmfork._machine import wanted


def test_a_program_does_not_want_what_starts_processes_loaded_and_a_child_that_starts_some_does(monkeypatch):
    for name in wanted.NESTED:
        monkeypatch.setitem(sys.modules, name, sys)
    assert not set(wanted.NESTED) & set(wanted.list_had(nested=False))
    assert set(wanted.NESTED) <= set(wanted.list_had(nested=True))


def test_only_what_the_table_names_is_to_be_loaded_and_what_comes_with_it_first(monkeypatch):
    for name in ("tempfile", "multiprocessing.managers", wanted.CLIENT, "this", "antigravity"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    asked = ("this", "multiprocessing.managers", "antigravity", "os; import this", "")
    assert wanted.list_missing(asked) == ["tempfile", wanted.CLIENT, "multiprocessing.managers"]


def test_what_is_loaded_is_not_loaded_again(monkeypatch):
    monkeypatch.setitem(sys.modules, "multiprocessing.heap", sys)
    assert wanted.list_missing(("multiprocessing.heap",)) == []


@pytest.mark.parametrize("text", ["raise ValueError", "raise SystemExit", "no python", "import nowhere_at_all"])
def test_a_module_that_fails_costs_whoever_loads_it_nothing(text: str, tmp_path: Path, monkeypatch):
    (tmp_path / "fails_when_loaded.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    wanted.load("fails_when_loaded")
    assert "fails_when_loaded" not in sys.modules
