"""The examples of run(), in small sizes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.architecture.sources import ROOT


def run_example(name: str, *arguments: object, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def test_the_snippet_server_answers_everybody_while_some_are_hostile():
    said = run_example("snippet_server.py", 10)
    assert "10 of 10 snippets gave the right answer" in said
    for limit in ("time", "memory", "output"):
        assert f"{limit} limit reached" in said
    assert "no data, but a __main__.P" in said
    assert "[{'result': None}, {'result': 21}, {'error': 'division by zero'}]" in said


def test_the_model_server_shares_its_model():
    said = run_example("model_server.py", 40)
    assert "request 4: 4, by process" in said
    own = [float(line.split()[2]) for line in said.splitlines() if line.startswith("wait-")]
    assert len(own) == 4
    assert max(own) < 20, said


def test_the_test_runner_keeps_tests_from_each_other(tmp_path: Path):
    tests = tmp_path / "some_tests.py"
    tests.write_text(
        "import os\n"
        "seen = []\n"
        "def test_one(): seen.append(1); os.environ['LEFT'] = '1'\n"
        "def test_two(): assert not seen and 'LEFT' not in os.environ\n"
        "def test_three(): os.abort()\n"
        "def test_four(): assert 1 == 2\n"
    )
    said = run_example("isolated_tests.py", tests, code=2)
    assert "passed some_tests.test_one" in said
    assert "passed some_tests.test_two" in said
    assert "FAILED some_tests.test_three" in said
    assert "killed by SIGABRT" in said
    assert "assert 1 == 2" in said
