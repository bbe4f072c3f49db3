"""How Sphinx builds the site. Two pages of the reference are made here, from the tables that the code has."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "src"))

from pygments.lexers.special import TextLexer  # noqa: E402

import warmfork  # noqa: E402
from warmfork.cli import COMMANDS, load  # noqa: E402
from warmfork.environment import LOGGERS, VARIABLES  # noqa: E402

project = "warmfork"
author = "The warmfork authors"
copyright = author
release = version = warmfork.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build", "benchmarks/*.json"]
myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]
default_role = "code"  # docstrings write `name` for code
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the signature of the source is there already
python_use_unqualified_type_names = True
suppress_warnings = ["myst.header"]  # pages that begin with headings of the third rank
html_theme = "furo"
html_title = "warmfork"
html_theme_options = {"navigation_with_keys": True}
html_copy_source = False
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
linkcheck_ignore = [r".*"]  # only links within the site are checked, by the build: there is no network in it


def write(path: Path, text: str) -> None:
    """Write a page, unless it says so already: then Sphinx need not read it again."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def make_command_line() -> str:
    """Give the page of the command line."""
    parts = ["# Command line\n\nThis page is made from the tables that `--help` prints.\n"]
    parts.append("| command | what it does |\n|---|---|")
    parts.append("\n".join(f"| [`warmfork {name}`](#warmfork-{name}) | {what} |" for name, what in COMMANDS.items()))
    for name in COMMANDS:
        command, _ = load(name)
        parts.append(f"\n## warmfork {name}\n\n```text\nwarmfork {name} {command.usage}\n```\n")
        parts += [" ".join(part.split()) + "\n" for part in command.text.strip().split("\n\n")]
        for option in command.options:
            choices = f" One of {', '.join(option.choices)}." if option.choices and len(option.choices) < 10 else ""
            variable = f" Sets `{option.variable}`." if option.variable else ""
            parts.append(f"`{option.describe()}`\n: {option.meaning}.{choices}{variable}\n")
        parts.append("\nExamples:\n")
        parts += [f"```text\n$ {line}\n```\n{what[0].upper()}{what[1:]}.\n" for line, what in command.examples]
        if command.more:
            parts.append(f"```text\n{command.more}\n```\n")
        parts.append("| exit code | meaning |\n|---|---|")
        parts += [f"| {code} | {meaning} |" for code, meaning in command.codes]
    return "\n".join(parts) + "\n"


def make_environment() -> str:
    """Give the page of the variables and loggers."""
    rows = [
        f"`{one.name}`\n: {one.meaning[0].upper()}{one.meaning[1:]}. Values: {one.values}. "
        f"Default: {one.default or 'empty'}. Read by {one.reader}.\n"
        for one in VARIABLES
    ]
    loggers = [f"| `{name}` | {what} |" for name, what in LOGGERS]
    return "\n".join(
        [
            "# Environment variables and loggers\n",
            "An argument in the code wins over a variable. This page is made from the table in `warmfork.environment`.\n",
            *rows,
            "\n## Loggers\n\n| logger | what it is told |\n|---|---|",
            *loggers,
            "",
        ]
    )


write(HERE / "reference/cli.md", make_command_line())
write(HERE / "reference/environment.md", make_environment())


def entitle(_app: object, name: str, text: list[str]) -> None:
    """Give what the benches have written a title: they write tables."""
    if name.startswith("benchmarks/") and not text[0].startswith("# "):
        text[0] = f"# {name.removeprefix('benchmarks/')}\n\n{text[0]}"


def list_arguments(_app: Any, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Give Sphinx the arguments under "Args:" as it wants them. Each begins with its name, and goes on indented."""
    if "Args:" not in lines:
        return
    at = lines.index("Args:") + 1
    while at < len(lines) and lines[at].startswith("    "):
        line = lines[at][4:]
        lines[at] = line if line.startswith(" ") else f":param {line}"
        at += 1
    lines[lines.index("Args:")] = ""


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", list_arguments)
    app.connect("source-read", entitle)
    app.add_lexer("mermaid", TextLexer)  # shown as it is written: drawing it takes a script from elsewhere
