"""What a package index shows, and what the build is told."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def description() -> ModuleType:
    spec = importlib.util.spec_from_file_location("description", ROOT / "tools/description.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


README = """\
# x

![picture](docs/a.svg)

<!-- picture -->
![another](docs/b.svg)

The picture shows b.
<!-- /picture -->

See [the design](docs/design.md#why), [a [nested] one](b.md) and [elsewhere](https://example.org/c).
"""


def test_without_an_address_relative_links_become_their_text_and_pictures_go(description):
    assert description.make_description(README, "") == (
        "# x\n\nSee the design, a [nested] one and [elsewhere](https://example.org/c).\n"
    )


def test_with_an_address_relative_links_lead_there(description):
    made = description.make_description(README, "https://example.org/f/{path}")
    assert "![picture](https://example.org/f/docs/a.svg)" in made
    assert "[the design](https://example.org/f/docs/design.md#why)" in made
    assert "[elsewhere](https://example.org/c)" in made


def test_the_description_of_this_project_has_no_relative_link(description):
    made = description.make_description((ROOT / "README.md").read_text(), "")
    assert [link for link in re.findall(r"\]\(([^)]*)\)", made) if not re.match(r"[a-z]+:", link)] == []
    assert "warmfork" in made and "```" in made


def test_python_has_no_upper_bound_and_the_version_one_place():
    project = SETTINGS["project"]
    assert project["requires-python"] == ">=3.11"
    assert "version" not in project and "version" in project["dynamic"]
    place = ROOT / SETTINGS["tool"]["hatch"]["version"]["path"]
    assert len(re.findall(r"^__version__ = ", place.read_text(), re.MULTILINE)) == 1


def test_each_dependency_has_a_lowest_version_and_no_highest():
    assert all(re.fullmatch(r"[a-z]+>=[\d.]+", one) for one in SETTINGS["project"]["dependencies"])


def test_each_target_that_the_guide_names_is_in_the_makefile():
    named = set(re.findall(r"`make ([a-z-]+)`", (ROOT / "CONTRIBUTING.md").read_text()))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert named and named <= targets
