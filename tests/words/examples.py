"""Strategies for messages: any message of any kind, with any fields that its annotations allow."""

from __future__ import annotations

from hypothesis import strategies as st

from warmfork._words.messages import BY_TAG, Message
from warmfork._words.spec import Spec

KINDS = sorted({*BY_TAG.values(), Spec}, key=lambda kind: kind.TAG)

# Text as it comes from file names and arguments: any bytes, with what is no UTF-8 as lone surrogates.
TEXTS = st.binary(max_size=40).map(lambda data: data.decode("utf-8", "surrogateescape"))
FIELDS = {
    "int": st.integers(-(2**63), 2**63 - 1),
    "str": TEXTS,
    "bytes": st.binary(max_size=40),
    "tuple[str, ...]": st.lists(TEXTS, max_size=5).map(tuple),
}
PLAIN = {"int": 1, "str": "x", "bytes": b"x", "tuple[str, ...]": ("x",)}


def make(kind: type[Message]) -> Message:
    """A message of this kind, with fields that mean nothing."""
    return kind(*(PLAIN[field] for field in kind.KINDS))


def build(kind: type[Message]) -> st.SearchStrategy[Message]:
    """Any message of this kind."""
    return st.tuples(*(FIELDS[field] for field in kind.KINDS)).map(lambda values: kind(*values))


MESSAGES = st.sampled_from(KINDS).flatmap(build)
