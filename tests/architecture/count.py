"""How much code there is, room by room: `python -m tests.architecture.count`, `-v` for each file.

Blank lines, comments, and docstrings of modules, classes and functions are not counted; the text below a constant is.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize

from tests.architecture.sources import list_files

KERNEL = ("_words", "_machine", "_child", "_template", "_tracker", "_client")

NO_CODE = {
    tokenize.COMMENT, tokenize.DEDENT, tokenize.ENCODING, tokenize.ENDMARKER, tokenize.INDENT, tokenize.NEWLINE,
    tokenize.NL,
}  # fmt: skip


WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def count_lines(text: str) -> int:
    """Count the lines of code in a source text."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, WITH_DOCSTRING) and ast.get_docstring(node, clean=False) is not None:
            lines.difference_update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return len(lines)


def count_files() -> dict[str, int]:
    """Give the lines of each module."""
    return {name: count_lines(path.read_text()) for name, path in list_files().items()}


def count_rooms() -> dict[str, int]:
    """Give the lines of each folder, and of each module that is in none."""
    rooms: dict[str, int] = {}
    for name, lines in count_files().items():
        room = name.partition(".")[0]
        rooms[room] = rooms.get(room, 0) + lines
    return rooms


def count_kernel() -> int:
    """Give the lines of the six rooms that start, feed, watch and bury a process."""
    return sum(lines for room, lines in count_rooms().items() if room in KERNEL)


if __name__ == "__main__":
    counted = count_files() if "-v" in sys.argv else count_rooms()
    for name, lines in sorted(counted.items(), key=lambda item: -item[1]):
        print(f"{lines:6} {name or '__init__'}")
    print(f"{count_kernel():6} in the kernel ({', '.join(KERNEL)})")
