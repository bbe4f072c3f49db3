"""Tools that wrap functions of multiprocessing to reach its children: coverage.py and pytest-cov measure these."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import make_environment

PROGRAM = """
import sys
import lib

def main():
    if sys.argv[1] == "install":
        import multiprocessing, warmfork
        warmfork.install()
        context = multiprocessing.get_context("forkserver")
    elif sys.argv[1] == "context":
        import warmfork
        context = warmfork.get_context(preload=["lib"])
    else:
        import multiprocessing
        context = multiprocessing.get_context(sys.argv[1])
    for number in range(2):
        process = context.Process(target=lib.work, args=(number,))
        process.start()
        process.join()
        assert process.exitcode == 0
    with context.Pool(1) as pool:
        assert pool.map(lib.work, [5]) == [6]
        pool.close()
        pool.join()

if __name__ == "__main__":
    main()
"""

LIB = """
def work(number):
    if number:
        number += 1
    return number
"""

SETTINGS = """
[run]
concurrency = multiprocessing
parallel = true
source = .
"""

TEST = """
import lib
import warmfork

def test_it():
    process = warmfork.get_context().Process(target=lib.work, args=(1,))
    process.start()
    process.join()
    assert process.exitcode == 0
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ".coveragerc").write_text(SETTINGS)
    (tmp_path / "lib.py").write_text(LIB)
    return tmp_path


def call(folder: Path, *command: str) -> str:
    """Run a module of this Python in that folder, and give what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=make_environment({"COVERAGE_PROCESS_START": None}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def list_missing(folder: Path) -> list[int]:
    """Give the lines of lib.py that were not measured."""
    call(folder, "coverage", "json", "-q")
    found = json.loads((folder / "coverage.json").read_text())["files"]["lib.py"]
    missing: list[int] = found["missing_lines"]
    return missing


@pytest.mark.parametrize("method", ["spawn", "context", "install"])
def test_coverage_measures_what_runs_in_children_only_as_with_spawn(folder: Path, method: str):
    pytest.importorskip("coverage")
    (folder / "program.py").write_text(PROGRAM)
    call(folder, "coverage", "run", "program.py", method)
    call(folder, "coverage", "combine", "-q")
    assert list_missing(folder) == []


def test_pytest_cov_measures_what_runs_in_children_only(folder: Path):
    pytest.importorskip("pytest_cov")
    (folder / "test_lib.py").write_text(TEST)
    call(folder, "pytest", "-q", "-p", "no:cacheprovider", "--cov", "--cov-config=.coveragerc", "test_lib.py")
    assert list_missing(folder) == []
