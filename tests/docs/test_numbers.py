"""The table of numbers in the README: made from what the bench has written, and from nothing else."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def numbers() -> ModuleType:
    spec = importlib.util.spec_from_file_location("readme_numbers", ROOT / "tools/readme_numbers.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_result(folder: Path) -> None:
    measures = [
        {"program": "pool-8", "phase": "later round, whole", "contender": who, "values": [value, value]}
        for who, value in (("warmfork", 12.5), ("fork", 20.0), ("spawn", 900.0))
    ]
    found = {"machine": {"python": "3.13.0", "cpu": "a processor"}, "rounds": 2, "gaps": [], "loads": []}
    (folder / "programs-3.13.json").write_text(json.dumps({**found, "measures": measures}))


def test_the_table_has_the_medians_of_the_files(numbers, tmp_path: Path):
    write_result(tmp_path)
    made = numbers.fill("a\n<!-- numbers -->\nold\n<!-- /numbers -->\nb\n", tmp_path)
    assert "| Pool(8): later round, whole | 12.5 | 20.0 | – | – | 900.0 |" in made
    assert "Python 3.13.0, a processor:" in made and "old" not in made and made.endswith("<!-- /numbers -->\nb\n")
    assert numbers.fill(made, tmp_path) == made


def test_without_files_the_place_is_empty(numbers, tmp_path: Path):
    text = "<!-- numbers -->\n<!-- /numbers -->\n"
    assert numbers.fill(text, tmp_path) == text


def test_a_readme_without_the_place_is_an_error(numbers, tmp_path: Path):
    with pytest.raises(ValueError, match="0 places"):
        numbers.fill("nothing", tmp_path)


def test_the_readme_s_table_is_that_of_the_files(numbers):
    assert numbers.main(["--check"]) == 0


def test_each_relative_link_of_the_readme_leads_to_a_file():
    import re

    links = re.findall(r"\]\(([^)#]+)", (ROOT / "README.md").read_text())
    assert links and [link for link in links if not re.match(r"[a-z]+:", link) and not (ROOT / link).exists()] == []
