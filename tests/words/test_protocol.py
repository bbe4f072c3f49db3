from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.words.examples import KINDS, MESSAGES, make
from warmfork._words.protocol import ANSWER, CHANNEL, CONTROL, DOOR, DOWN, FEED, LEDGER, TABLE, UP, ProtocolError, step
from warmfork._words.spec import Spec

LINKS = (DOOR, CONTROL, CHANNEL, FEED, ANSWER, LEDGER)
BEGINNINGS = {DOOR: "open", CONTROL: "open", CHANNEL: "open", FEED: "open", ANSWER: "open", LEDGER: "new"}
STATES = {(link, state) for link, state in TABLE} | {
    (link, after) for (link, _), row in TABLE.items() for after in row.values()
}
LEGAL = {(*conversation, way, kind) for conversation, row in TABLE.items() for way, kind in row}
EVERY = {(*conversation, way, kind) for conversation in STATES for way in (UP, DOWN) for kind in KINDS}


def name_case(case: object) -> str:
    return case.__name__ if isinstance(case, type) else str(case)


@pytest.mark.parametrize(("link", "state", "way", "kind"), sorted(LEGAL, key=str), ids=name_case)
def test_a_message_that_the_table_lists_leads_where_the_table_says(link, state, way, kind):
    assert step(link, state, way, make(kind)) == TABLE[link, state][way, kind]


@pytest.mark.parametrize(("link", "state"), sorted(STATES))
def test_a_message_that_the_table_does_not_list_is_refused_by_name(link, state):
    """Illegal is the complement of legal."""
    illegal = [(way, kind) for a, b, way, kind in EVERY - LEGAL if (a, b) == (link, state)]
    assert len(illegal) + len(TABLE.get((link, state), ())) == 2 * len(KINDS)
    for way, kind in illegal:
        with pytest.raises(ProtocolError) as caught:
            step(link, state, way, make(kind))
        text = str(caught.value)
        assert f"{kind.__name__} is not said {way} a {link} that is {state}" in text
        legal = [said.__name__ for other, said in TABLE.get((link, state), {}) if other == way]
        assert f"(legal: {', '.join(legal) or 'nothing'})" in text


@given(st.sampled_from(LINKS), st.lists(st.tuples(st.sampled_from([UP, DOWN]), MESSAGES), max_size=20))
def test_a_refused_message_leaves_the_conversation_where_it_was(link, said):
    state = BEGINNINGS[link]
    for way, message in said:
        before = state
        try:
            state = step(link, state, way, message)
        except ProtocolError:
            assert (link, before, way, type(message)) not in LEGAL
            assert state == before
        else:
            assert (link, before, way, type(message)) in LEGAL
    assert (link, state) in STATES


def test_nothing_is_said_on_a_link_that_nobody_knows():
    with pytest.raises(ProtocolError, match="legal: nothing"):
        step("telegraph", "open", UP, make(KINDS[0]))


def test_every_message_has_its_place_in_the_table():
    assert {kind for *_, kind in LEGAL} == set(KINDS) - {Spec}, "a Spec travels in a memfd"


def test_every_state_is_reached_from_the_beginning_of_its_link():
    reached = set(BEGINNINGS.items())
    grew = True
    while grew:
        more = {(link, after) for link, state in reached for after in TABLE.get((link, state), {}).values()} - reached
        reached |= more
        grew = bool(more)
    assert reached == STATES


def test_nothing_follows_the_end():
    assert not [state for link, state in TABLE if state == "ended"]
