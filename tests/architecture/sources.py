"""The sources as trees: which module imports which, and where it says so."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "warmfork"


class Import(NamedTuple):
    """One import of one name."""

    importer: str
    imported: str  # a module of ours, or the full name as it is written
    line: int
    in_function: bool
    for_types: bool  # under `if TYPE_CHECKING`

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


def name_module(path: Path) -> str:
    """The dotted name of a file of the package, without `warmfork.`; "" is warmfork itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def list_files() -> dict[str, Path]:
    """All modules of the package."""
    return {name_module(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def is_for_types(node: ast.AST) -> bool:
    """Is this `if TYPE_CHECKING:`?"""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def walk(node: ast.AST, in_function: bool, for_types: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool, bool]]:
    """All import statements below, and where they stand."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        yield node, in_function, for_types
    if is_for_types(node):
        for child in node.body:
            yield from walk(child, in_function, True)
        children = iter(node.orelse)
    else:
        children = ast.iter_child_nodes(node)
    inside = in_function or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
    for child in children:
        yield from walk(child, inside, for_types)


def find_ours(name: str) -> str:
    """The module of ours that a full name means: `warmfork._words.wire.encode` is in `_words.wire`."""
    ours = name.removeprefix("warmfork").removeprefix(".")
    while ours and ours not in list_files():
        ours = ours.rpartition(".")[0]
    return ours


def list_imports(importer: str, text: str) -> list[Import]:
    """All imports in one source text."""
    found = []
    for node, in_function, for_types in walk(ast.parse(text), False, False):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"{importer}:{node.lineno}: a relative import; write the full name")
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            names = [alias.name for alias in node.names]
        for name in names:
            imported = find_ours(name) if is_ours(name) else name
            found.append(Import(importer, imported, node.lineno, in_function, for_types))
    return found


def is_ours(name: str) -> bool:
    """Does this full name lie in our package?"""
    return name == "warmfork" or name.startswith("warmfork.")


@cache
def list_all() -> tuple[list[Import], list[Import]]:
    """All imports of the package that happen: of our own modules, and of others."""
    ours, others = [], []
    for name, path in list_files().items():
        for found in list_imports(name, path.read_text()):
            if not found.for_types:
                (ours if found.imported in list_files() else others).append(found)
    return ours, others


def find_knots(edges: set[tuple[str, str]]) -> set[frozenset[str]]:
    """The sets of modules each of which leads to all the others."""
    names = {name for edge in edges for name in edge}
    reached: dict[str, set[str]] = {}
    for name in names:
        seen: set[str] = set()
        todo = [name]
        while todo:
            current = todo.pop()
            new = {target for source, target in edges if source == current} - seen
            seen |= new
            todo.extend(new)
        reached[name] = seen
    knots = {frozenset(other for other in reached[name] if name in reached[other]) for name in names}
    return {knot for knot in knots if len(knot) > 1}
