"""What users read in errors, logs and reports: everyday words. The names that parts have in the code stay in the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.sources import PACKAGE

FORBIDDEN = {
    "door": "say which function or option",
    "doors": "say which function or option",
    "birth": "start",
    "births": "starts",
    "born": "started",
    "seal": "after the preload",
    "sealed": "after the preload",
    "feed": "what a child is sent",
    "fed": "sent",
    "hello": "request",
    "hellos": "requests",
    "mold": "template",
    "zygote": "template",
    "ledger": "the tracker's list",
    "succession": "say that it was started again",
    "successor": "another tracker",
    "rehearsal": "leave it out, or say what did not work",
    "rehearsed": "leave it out, or say what did not work",
    "heir": "another tracker",
    "orphaned": "whose program has ended",
    "nobody knows": "not known",
    "the dead": "processes that have ended",
}
"""Words that no message has, and what is said in their place."""

NOT_SAID = {"_words/protocol.py", "_words/wire.py", "_words/messages.py", "environment.py"}
"""Files whose texts tell of the protocol, and reach a user only inside of a bug's traceback; and a table for the site."""


def list_texts(path: Path) -> Iterator[tuple[int, str]]:
    """Give each text of a file that has two words or more and is no docstring, with its line."""
    tree = ast.parse(path.read_text())
    documentation = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else ():
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                documentation.add(id(statement.value))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in documentation:
            continue
        if " " in node.value.strip():
            yield node.lineno, node.value


def find_forbidden(text: str) -> list[str]:
    """Give the words of a text that are forbidden."""
    return [word for word in FORBIDDEN if re.search(rf"(?<![\w.-]){word}(?![\w(.]\w)(?!\w)", text, re.IGNORECASE)]


def list_said() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if str(path.relative_to(PACKAGE)) not in NOT_SAID]


def test_no_message_or_log_line_has_a_word_that_only_the_code_knows():
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {word!r} ({FORBIDDEN[word]}): {text!r}"
        for path in list_said()
        for line, text in list_texts(path)
        for word in find_forbidden(text)
    ]
    assert not found, "\n".join(found)


NUMBERED = re.compile(r"\bsignal (\{|%d|\d)|\(signal=%|signal \d")


def test_no_message_names_a_signal_by_its_number():
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {text!r}"
        for path in list_said()
        for line, text in list_texts(path)
        if NUMBERED.search(text)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("said up a door", ["door"]),
        ("fed to it", ["fed"]),
        ("outdoor indoors", []),
        ("rebirth", []),
        ("a birth", ["birth"]),
    ],
)
def test_the_words_are_found(text, words):
    assert find_forbidden(text) == words
