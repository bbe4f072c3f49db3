"""What tools and programs put round multiprocessing's functions is called, by the program and in its children."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import run_program

TOOL = """
import os, sys
from multiprocessing import process, reduction, spawn

notes = []

class Stowaway:
    def __init__(self, number):
        self.number = number
    def __setstate__(self, state):
        os.environ["STOWAWAY"] = str(state["number"])

def wrap_preparation_data():
    original = spawn.get_preparation_data
    spawn.get_preparation_data = lambda name: {**original(name), "stowaway": Stowaway(7)}

def add_to_path():
    original = spawn.get_preparation_data
    def changed(name):
        found = original(name)
        found["sys_path"] = [*found["sys_path"], "/added/by/a/tool"]
        return found
    spawn.get_preparation_data = changed

def wrap_prepare():
    original = spawn.prepare
    def prepare(data):
        os.environ["PREPARED"] = data["name"]
        original(data)
    spawn.prepare = prepare

def wrap_bootstrap():
    original = process.BaseProcess._bootstrap
    def _bootstrap(self, *arguments, **named):
        os.environ["BOOTSTRAPPED"] = "yes"
        return original(self, *arguments, **named)
    process.BaseProcess._bootstrap = _bootstrap

def wrap_start():
    original = process.BaseProcess.start
    def start(self):
        notes.append("start")
        original(self)
    process.BaseProcess.start = start

def wrap_dump():
    original = reduction.dump
    def dump(*arguments):
        notes.append("dump")
        original(*arguments)
    reduction.dump = dump

def replace_pickler():
    class Pickler(reduction.ForkingPickler):
        def reducer_override(self, value):
            notes.append("override") if "override" not in notes else None
            return NotImplemented
    def dump(value, file, protocol=None):
        Pickler(file, protocol).dump(value)
    reduction.ForkingPickler = Pickler
    reduction.dump = dump

class Reducer(reduction.AbstractReducer):
    def dump(value, file, protocol=None):
        notes.append("reducer")
        reduction.ForkingPickler(file, protocol).dump(value)
    dump = staticmethod(dump)
"""

PROGRAM = """
import os, sys
{before}
import tool
{early}
import warmfork

def work():
    print({told}, flush=True)

if __name__ == "__main__":
    {door}
    {use}
    for _ in range(2):
        process = context.Process(target=work, name="named")
        process.start()
        process.join()
        assert process.exitcode == 0
    print(sorted(set(tool.notes)), flush=True)
"""

DOORS = pytest.mark.parametrize(
    "door",
    [
        "context = warmfork.get_context(preload=['json'])",
        "import multiprocessing; warmfork.install(); context = multiprocessing.get_context('forkserver')",
    ],
    ids=["context", "install"],
)


def run(tmp_path: Path, door: str, use: str, told: str = "''", before: str = "", early: str = "") -> list[str]:
    (tmp_path / "tool.py").write_text(TOOL)
    code = PROGRAM.format(door=door, use=use, told=told, before=before, early=early)
    return run_program(code, tmp_path).stdout.splitlines()


@DOORS
def test_what_is_added_to_the_preparation_data_is_unpickled_before_the_function_runs(tmp_path: Path, door: str):
    lines = run(tmp_path, door, "tool.wrap_preparation_data()", "os.environ.get('STOWAWAY')")
    assert lines == ["7", "7", "[]"]


@DOORS
def test_what_is_changed_of_the_preparation_data_is_taken(tmp_path: Path, door: str):
    assert run(tmp_path, door, "tool.add_to_path()", "sys.path[-1]")[:2] == ["/added/by/a/tool"] * 2


@DOORS
def test_prepare_is_called_where_it_is_somebody_else_s(tmp_path: Path, door: str):
    lines = run(tmp_path, door, "pass", "os.environ.get('PREPARED')", early="tool.wrap_prepare()")
    assert lines[:2] == ["named", "named"]


@DOORS
def test_bootstrap_is_called_where_it_is_somebody_else_s(tmp_path: Path, door: str):
    lines = run(tmp_path, door, "pass", "os.environ.get('BOOTSTRAPPED')", early="tool.wrap_bootstrap()")
    assert lines[:2] == ["yes", "yes"]


@DOORS
@pytest.mark.parametrize("when", ["early", "use"])
def test_start_is_called_where_it_is_somebody_else_s(tmp_path: Path, door: str, when: str):
    options = {"use": "pass", "early": "", when: "tool.wrap_start()"}
    assert run(tmp_path, door, **options)[-1] == "['start']"


@DOORS
@pytest.mark.parametrize(
    ("use", "note"),
    [
        ("tool.wrap_dump()", "dump"),
        ("tool.replace_pickler()", "override"),
        ("context.reducer = tool.Reducer", "reducer"),
    ],
)
def test_a_pickler_of_somebody_else_s_is_used(tmp_path: Path, door: str, use: str, note: str):
    assert run(tmp_path, door, use)[-1] == f"['{note}']"


REDUCERS = """
import copyreg
from multiprocessing.reduction import ForkingPickler
import warmfork

class Thing:
    said = "nothing"

def make(said):
    thing = Thing()
    thing.said = said
    return thing

def work(thing):
    print(thing.said, flush=True)

if __name__ == "__main__":
    context = warmfork.get_context()
    register = {"own": ForkingPickler.register, "general": copyreg.pickle}
    for name in ("general", "general again", "own", "own again"):
        register[name.split()[0]](Thing, lambda thing, name=name: (make, (name,)))
        process = context.Process(target=work, args=(Thing(),))
        process.start()
        process.join()
"""


def test_a_reducer_that_is_registered_again_is_used(tmp_path: Path):
    assert run_program(REDUCERS, tmp_path).stdout.splitlines() == ["general", "general again", "own", "own again"]
