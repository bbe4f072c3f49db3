"""The site: it builds without a warning, its tables are those of the code, and its pages are linked."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from warmfork.api.options import Options
from warmfork.cli import COMMANDS, load
from warmfork.environment import LOGGERS, VARIABLES

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built with each warning an error: among them links to what is not there."""
    for name in ("sphinx", "myst_parser", "furo"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed; make docs-test installs it")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-d", folder / "trees",
         ROOT / "docs", folder / "html"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "html"


def test_each_link_within_the_site_leads_to_a_page_and_a_place_on_it(site):
    wrong = []
    texts = {page: page.read_text() for page in site.rglob("*.html")}
    for page, text in texts.items():
        for link in re.findall(r'<a [^>]*href="([^"]*)"', text):
            path, _, place = link.partition("#")
            if re.match(r"[a-z]+:", link) or not link:
                continue
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (place and target in texts and f'id="{place}"' not in texts[target]):
                wrong.append((page.name, link))
    assert wrong == []


def test_the_reference_shows_each_command_option_variable_and_logger(site):
    text = (site / "reference/cli.html").read_text()
    for name in COMMANDS:
        command, _ = load(name)
        assert f"warmfork {name}" in text
        for option in command.options:
            assert all(each in text for each in option.names)
    text = (site / "reference/environment.html").read_text()
    assert all(one.name in text for one in VARIABLES) and all(name in text for name, _ in LOGGERS)


def test_the_reference_shows_all_that_the_package_exports(site):
    import warmfork

    text = (site / "reference/api.html").read_text()
    assert [name for name in warmfork.__all__ if f'id="warmfork.{name}"' not in text] == []


def test_the_table_of_variables_has_each_that_the_code_reads_and_no_other():
    found = set()
    for path in (ROOT / "src").rglob("*.py"):
        found |= set(re.findall(r"\bWARMFORK_[A-Z_]*[A-Z]\b", path.read_text()))
    # Options are read as WARMFORK_ and the option's name, which the code does not spell out.
    options = {f"WARMFORK_{name.upper()}" for name in Options.__slots__}
    assert found | options == {one.name for one in VARIABLES}


def test_the_table_of_loggers_has_each_that_the_code_uses():
    found = set()
    for path in (ROOT / "src").rglob("*.py"):
        found |= set(re.findall(r'getLogger\("([^"]+)"\)', path.read_text()))
    assert found == {name for name, _ in LOGGERS}


def test_each_option_that_sets_a_variable_is_in_the_table():
    known = {one.name for one in VARIABLES}
    for name in COMMANDS:
        assert {option.variable for option in load(name)[0].options if option.variable} <= known


TROUBLESHOOTING = (ROOT / "docs/troubleshooting.md").read_text()


def test_the_page_on_troubleshooting_has_each_error():
    import warmfork

    exported = [getattr(warmfork, name) for name in warmfork.__all__]
    errors = [one.__name__ for one in exported if isinstance(one, type) and issubclass(one, warmfork.WarmforkError)]
    assert len(errors) > 15
    assert [name for name in errors if not re.search(rf"\b{name}\b", TROUBLESHOOTING)] == []


def list_logged() -> list[str]:
    """Give each text that a line of the code hands to a logger as a warning, or as worse."""
    found = []
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                text = node.args[0]
                if node.func.attr in ("warning", "error", "exception", "critical") and isinstance(text, ast.Constant):
                    found.append(str(text.value))
    return found


def test_the_page_on_troubleshooting_has_each_warning_of_the_log():
    logged = [text for text in list_logged() if text.count(" ") > 1]
    assert len(logged) > 10
    missing = []
    for text in logged:
        parts = [part.strip(" ,)") for part in re.split(r"%\S*|[(:]", text)]
        whole = "`" + "[^`]+".join(map(re.escape, re.split(r"%\S*", text))) + "`"
        told = any(len(part) > 15 and part in TROUBLESHOOTING for part in parts)
        if not told and not re.search(whole.replace("[^`]+[^`]+", "[^`]+"), TROUBLESHOOTING):
            missing.append(text)
    assert missing == []
