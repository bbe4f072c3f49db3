"""Two processes of pytest share the files of tests: each test runs once, and what fails is told."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests import parallel
from tests.running import ROOT


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the tests of a folder."""
    command = [sys.executable, "-m", "tests.parallel", str(folder), f"--rootdir={folder}", "-p", "no:cacheprovider"]
    return subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60)


def write(folder: Path, body: str) -> Path:
    """Write twelve files of two tests each, that append their names to a file."""
    for number in range(12):
        names = f"test_{number}", f"test_{number}_too"
        text = "".join(f"def {name}():\n    open({str(folder / 'ran')!r}, 'a').write('{name} ')\n" for name in names)
        Path(folder, f"test_{number}.py").write_text(text + (body if number == 7 else ""))
    return folder


def test_each_test_runs_once_and_both_numbers_are_added(tmp_path):
    done = run(write(tmp_path, ""))
    names = (tmp_path / "ran").read_text().split()
    assert sorted(names) == sorted(f"test_{number}{end}" for number in range(12) for end in ("", "_too"))
    assert done.stdout.splitlines()[-1].startswith("24 passed in ")
    assert done.returncode == 0, done


def test_a_failure_is_shown_and_gives_a_code(tmp_path):
    done = run(write(tmp_path, "def test_wrong():\n    assert 1 == 2\n"))
    assert "assert 1 == 2" in done.stdout
    assert re.search(r"^FAILED .*test_7.py::test_wrong", done.stdout, re.MULTILINE)
    assert done.stdout.splitlines()[-1].startswith("1 failed, 24 passed in ")
    assert done.returncode == 1, done


def test_a_file_that_can_not_be_read_gives_a_code(tmp_path):
    done = run(write(tmp_path, "import nowhere_at_all\n"))
    assert "No module named 'nowhere_at_all'" in done.stdout
    assert done.returncode == 2, done


def test_the_words_of_one_and_of_several_are_the_same():
    endings = ["1 failed, 20 passed, 1 skipped, 1 warning, 1 error in 3.20s", "5 passed, 2 errors in 61.00s (0:01:01)"]
    assert parallel.sum_up(endings, 70) == "1 failed, 25 passed, 1 skipped, 1 warnings, 3 errors in 70.00s"
    assert parallel.sum_up(["no tests ran in 0.01s"], 1) == "no tests ran in 1.00s"


def test_each_process_has_a_group_of_its_own(tmp_path):
    done = run(write(tmp_path, "import os\ndef test_group():\n    assert os.getpgrp() == os.getpid()\n"))
    assert done.stdout.splitlines()[-1].startswith("25 passed in "), done
