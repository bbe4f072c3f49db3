"""mypy and pyright on what users write: good.py has nothing to report, bad.py a mistake in each line that says so.

They are of the dependency group "lint", and take half a minute: `make lint` runs this, and `make test` leaves it out.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import warmfork

pytestmark = pytest.mark.skipif(os.environ.get("WARMFORK_TEST_TYPES") != "1", reason="make lint runs it")

HERE = Path(__file__).parent
MARK = "# wrong"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two files in a folder of their own: with none of this project's settings, as users have them."""
    made = tmp_path_factory.mktemp("typing")
    for name in ("good.py", "bad.py"):
        shutil.copy(HERE / name, made)
    (made / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "strict"}))
    return made


@pytest.fixture(scope="module")
def reported(folder: Path) -> dict[str, dict[str, dict[int, str]]]:
    """What each checker says of each file: by line."""
    return {"mypy": sort(read_mypy(folder)), "pyright": sort(read_pyright(folder))}


def run(folder: Path, *command: str) -> str:
    """Run a checker of this environment, which finds warmfork as it is installed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def read_mypy(folder: Path) -> Iterator[tuple[str, int, str]]:
    said = run(folder, "mypy", "--strict", "--cache-dir", str(folder / "cache"), "good.py", "bad.py")
    assert "(checked 2 source files)" in said
    for name, line, text in re.findall(r"^(\w+\.py):(\d+): error: (.*)", said, re.MULTILINE):
        yield name, int(line), text


def read_pyright(folder: Path) -> Iterator[tuple[str, int, str]]:
    said = json.loads(run(folder, "pyright", "--outputjson", "good.py", "bad.py"))
    assert said["summary"]["filesAnalyzed"] == 2
    for one in said["generalDiagnostics"]:
        yield Path(one["file"]).name, one["range"]["start"]["line"] + 1, one["message"]


def sort(said: Iterator[tuple[str, int, str]]) -> dict[str, dict[int, str]]:
    found: dict[str, dict[int, str]] = {"good.py": {}, "bad.py": {}}
    for name, line, text in said:
        found[name].setdefault(line, text)
    return found


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_there_is_nothing_to_report_in_what_is_right(reported, checker):
    assert reported[checker]["good.py"] == {}


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_each_mistake_is_reported_and_nothing_else(reported, checker):
    lines = (HERE / "bad.py").read_text().splitlines()
    marked = {number for number, line in enumerate(lines, 1) if line.endswith(MARK)}
    found = reported[checker]["bad.py"]
    assert marked
    assert [lines[number - 1] for number in sorted(marked - found.keys())] == [], "not reported"
    assert {number: found[number] for number in sorted(found.keys() - marked)} == {}, "not marked"


def test_pyright_knows_the_type_of_every_public_name(folder):
    said = json.loads(run(folder, "pyright", "--verifytypes", "warmfork", "--ignoreexternal", "--outputjson"))
    symbols = {one["name"]: one for one in said["typeCompleteness"]["symbols"]}
    names = [f"warmfork.{name}" for name in warmfork.__all__]
    assert [name for name in names if name not in symbols] == []
    for name, place in warmfork._PLACES.items():
        names += [one for one in symbols if f"{one}.".startswith(f"{place}.{name}.")]
    unknown = {
        name: [each["message"] for each in symbols[name]["diagnostics"]]
        for name in names
        if not symbols[name]["isTypeKnown"] or symbols[name]["isTypeAmbiguous"]
    }
    assert unknown == {}
