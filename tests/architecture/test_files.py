from __future__ import annotations

import ast
import importlib

import pytest

import warmfork
from tests.architecture.sources import PACKAGE, ROOT, list_files

LONGEST = 400
SOURCES = [
    path
    for folder in ("src", "tests", "bench", "examples")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "__pycache__" not in path.parts
]


def test_every_file_is_under_400_lines():
    sizes = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: size for name, size in sizes.items() if size >= LONGEST} == {}


def test_every_module_says_in_its_first_line_what_is_in_it():
    silent = []
    for name, path in list_files().items():
        text = ast.get_docstring(ast.parse(path.read_text()))
        if not text or (len(text.splitlines()) == 1 and not text.endswith((".", "?"))):
            silent.append(name)
    assert silent == []


def test_no_source_validates_by_assert_and_none_swallows_an_error():
    """Under -O an assert is gone; ruff says so too, where it is run."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            swallows = isinstance(node, ast.ExceptHandler) and [type(child) for child in node.body] == [ast.Pass]
            if swallows or isinstance(node, ast.Assert):
                found.append(f"{path.name}:{node.lineno}")
    assert found == []


@pytest.mark.parametrize("name", warmfork.__all__)
def test_every_public_name_is_where_it_is_said_to_be_and_has_a_docstring(name):
    value = getattr(warmfork, name)
    assert getattr(importlib.import_module(warmfork._PLACES[name]), name) is value
    assert value.__doc__


def test_the_public_names_are_listed_and_no_others_are_given():
    assert set(warmfork.__all__) <= set(dir(warmfork))
    with pytest.raises(AttributeError, match="module 'warmfork' has no attribute 'nothing'"):
        _ = warmfork.nothing
    names = {
        node.asname
        for node in ast.walk(ast.parse((PACKAGE / "__init__.py").read_text()))
        if isinstance(node, ast.alias)
    }
    assert names - {None} == set(warmfork.__all__), "type checkers are told of the same names"
