"""Each way in which the design could have failed has a test that names it."""

from __future__ import annotations

import re
from pathlib import Path

from tests.architecture.sources import ROOT

ROW = re.compile(r"\bM(\d+)\b")


def test_each_row_of_the_premortem_is_named_by_a_test():
    page = (ROOT / "docs" / "premortem.md").read_text()
    rows = {int(number) for number in re.findall(r"^\| M(\d+) \|", page, flags=re.MULTILINE)}
    named: set[int] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        named |= {int(number) for number in ROW.findall(path.read_text())}
    assert len(rows) == 26
    assert rows - named == set()


def test_the_page_says_of_each_row_what_to_take_out_and_which_test_fails_then():
    page = (ROOT / "docs" / "premortem.md").read_text()
    shown = page[page.index("## How each row is shown") :]
    assert {int(number) for number in re.findall(r"^\| M(\d+) \|", shown, flags=re.MULTILINE)} == set(range(1, 27))
    tests = re.findall(r"`(tests/[a-z_/]+\.py)`", shown)
    assert len(tests) >= 26 and all((ROOT / test).is_file() for test in tests)


def test_what_is_to_be_taken_out_is_in_the_file_that_the_page_names():
    page = (ROOT / "docs" / "premortem.md").read_text()
    cells = [row.split("|")[2] for row in page[page.index("## How each row is shown") :].splitlines() if "`" in row]
    missing = []
    for cell in cells:
        files: list[Path] = []
        for name in re.findall(r"`([\w./]+)(?:\(\))?`", cell):
            if name.endswith(".py"):
                files = [path for path in (ROOT / "src").rglob("*.py") if str(path).endswith(f"/{name}")]
                missing += [] if files else [name]
            elif files and not any(name.rpartition(".")[2] in path.read_text() for path in files):
                missing.append(f"{name} in {files[0].name}")
    assert len(cells) > 26 and not missing
