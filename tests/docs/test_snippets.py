"""Each snippet of the documentation is run, with what it prints. CONTRIBUTING.md says how they are marked."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
DEADLINE = 60
KINDS = ("python", "pycon", "console")
MARK = re.compile(r"<!-- (file|needs|skip): (.+?) -->")
FENCE = re.compile(r"```(\{?[\w-]*\}?)( .*)?")
OLDER = ("conformance", "design", "large", "pitfalls", "premortem", "protocol", "reliability", "switches")
"""Pages that explain: their blocks are pieces, and not programs."""


@dataclass
class Snippet:
    """A fenced block: its kind, its text, its marks, what it must print (None: it does not say), and its line."""

    kind: str
    text: str
    marks: dict[str, str]
    output: str | None
    line: int


def read_snippets(page: Path) -> list[Snippet]:
    """Give the blocks of a page that can be run."""
    found: list[Snippet] = []
    marks: dict[str, str] = {}
    kind = None
    begun = 0
    block: list[str] = []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        fence = FENCE.fullmatch(line.rstrip())
        if kind is None:
            mark = MARK.fullmatch(line.strip())
            if mark:
                marks[mark[1]] = mark[2]
            elif fence:
                kind, begun, block = fence[1] or "text", number, []
            elif line.strip():
                marks = {}
            continue
        if line.rstrip() != "```":
            block.append(line)
            continue
        if kind == "output":
            found[-1].output = "\n".join(block) + "\n"
        elif kind in KINDS:
            found.append(Snippet(kind, "\n".join(block) + "\n", marks, None, begun))
        kind, marks = None, {}
    assert kind is None, f"{page}: the block in line {begun} has no end"
    return found


def list_pages() -> list[Path]:
    pages = [page for page in DOCS.rglob("*.md") if "_build" not in page.parts and "benchmarks" not in page.parts]
    return [ROOT / "README.md", *sorted(page for page in pages if page.parent != DOCS or page.stem not in OLDER)]


def split_session(text: str) -> list[tuple[str, str]]:
    """Give the commands of a console block, each with what it prints."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        else:
            command, output = found[-1]
            found[-1] = command, f"{output}{line}\n"
    return found


def matches(wanted: str, got: str) -> bool:
    """Is it what must be printed? "..." stands for anything, and a row of spaces for any row of spaces."""
    pieces = [re.sub(r"[ \t]+", r"[ \\t]+", re.escape(piece).replace("\\ ", " ")) for piece in wanted.split("...")]
    return re.fullmatch("(?s:.*?)".join(pieces), got) is not None


def run_snippet(snippet: Snippet, folder: Path, number: int) -> str:
    """Run it. Gives "", or what is wrong."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("WARMFORK_", "PYTEST_"))}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    environment["DASK_TEMPORARY_DIRECTORY"] = str(folder)

    def run(command: list[str], merged: bool) -> tuple[int, str, str]:
        done = subprocess.run(
            command, cwd=folder, env=environment, text=True, timeout=DEADLINE, check=False, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT if merged else subprocess.PIPE,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr or ""

    if snippet.kind == "console":
        for command, wanted in split_session(snippet.text):
            code, got, _ = run(["bash", "-c", command], True)
            if code or not matches(wanted, got):
                return f"$ {command}\nended with {code}, and printed:\n{got}\nin place of:\n{wanted}"
        return ""
    path = folder / f"snippet_{number}.{'py' if snippet.kind == 'python' else 'txt'}"
    path.write_text(snippet.text)
    if snippet.kind == "pycon":
        code, got, errors = run([sys.executable, "-m", "doctest", str(path)], False)
        return f"{got}{errors}" if code else ""
    code, got, errors = run([sys.executable, str(path)], False)
    if code or (snippet.output is not None and not matches(snippet.output, got)):
        return f"ended with {code}, and printed:\n{got}{errors}\nin place of:\n{snippet.output}"
    return ""


@pytest.mark.parametrize("page", list_pages(), ids=lambda page: str(page.relative_to(ROOT).with_suffix("")))
def test_each_snippet_of_a_page_does_what_the_page_says(page, tmp_path):
    missing = set()
    for number, snippet in enumerate(read_snippets(page), 1):
        if "skip" in snippet.marks:
            continue
        if "file" in snippet.marks:
            (tmp_path / snippet.marks["file"]).write_text(snippet.text)
            continue
        needed = re.split(r",\s*", snippet.marks["needs"]) if "needs" in snippet.marks else []
        absent = {name for name in needed if importlib.util.find_spec(name) is None}
        if absent:
            missing |= absent
            continue
        wrong = run_snippet(snippet, tmp_path, number)
        assert not wrong, f"{page.relative_to(ROOT)}:{snippet.line}: {wrong}"
    if missing:
        pytest.skip(f"not installed: {', '.join(sorted(missing))} (make docs-test installs it); the rest was run")


def test_a_snippet_that_is_wrong_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nprint(1)\n```\n```output\n2\n```\n\n```console\n$ false\n```\n\n```pycon\n>>> 1\n2\n```\n"
    )
    snippets = read_snippets(page)
    assert [snippet.kind for snippet in snippets] == ["python", "console", "pycon"]
    assert all(run_snippet(snippet, tmp_path, 1) for snippet in snippets)
    assert matches("a ... b\n", "a   x y b\n") and not matches("a\n", "a\nb\n")
