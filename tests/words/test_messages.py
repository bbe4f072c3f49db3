from __future__ import annotations

import pytest
from hypothesis import given

from tests.words.examples import KINDS, MESSAGES, make
from warmfork._words.messages import BY_TAG, Exited, Message, Spawn, Spawned


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_message_says_what_it_is(kind):
    assert kind.__doc__, "what does it promise?"
    assert BY_TAG[kind.TAG] is kind
    assert set(kind.KINDS) <= {"int", "str", "bytes", "tuple[str, ...]"}
    message = make(kind)
    assert [getattr(message, field) for field in kind.FIELDS] == list(message)
    assert repr(message).startswith(f"{kind.__name__}(")


def test_fields_are_given_by_place_or_by_name():
    assert Spawn(1, 0, "a") == Spawn(1, kill=0, name="a") == Spawn(name="a", request=1, kill=0)


@pytest.mark.parametrize(
    ("values", "named"),
    [((), {}), ((1,), {}), ((1, 2, 3), {}), ((1,), {"pod": 2}), ((1, 2), {"pid": 2}), ((), {"pid": 1})],
)
def test_a_message_with_other_fields_than_its_own_cannot_be_made(values, named):
    with pytest.raises((TypeError, KeyError)):
        Spawned(*values, **named)


@given(MESSAGES)
def test_the_fields_of_a_message_cannot_be_changed(message):
    for field in message.FIELDS:
        with pytest.raises(AttributeError):
            setattr(message, field, getattr(message, field))


def test_messages_of_two_kinds_are_never_equal_even_with_the_same_fields():
    assert Spawned(1, 2) != Exited(1, 2, 0, 0, 0, 0)
    empty = [kind() for kind in KINDS if not kind.KINDS]
    assert len(empty) > 1 and len(set(map(repr, empty))) == len(empty)
    assert [one == other for one in empty for other in empty].count(True) == len(empty)


def test_a_tag_is_taken_once():
    with pytest.raises(TypeError, match="tag 33 of Other is taken by Spawned"):
        type("Other", (Message,), {"__annotations__": {}}, tag=33)
    assert BY_TAG[33] is Spawned
