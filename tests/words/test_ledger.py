from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.words.examples import MESSAGES
from warmfork._words import messages
from warmfork._words.ledger import read_records, write_record

KINDS = ["semaphore", "shared_memory"]
NAMES = ["/a", "/b", "/c:d", ""]
KEYS = st.tuples(st.sampled_from(KINDS), st.sampled_from(NAMES))
EVENTS = st.lists(
    st.one_of(
        KEYS.map(lambda key: messages.Entered(*key, 7, "maker", 8, 9)),
        st.tuples(KEYS, st.integers(1, 3)).map(
            lambda at: messages.NameHeld(*at[0], at[1], 100 + at[1], "holder", 8, 9)
        ),
        st.tuples(KEYS, st.integers(0, 3)).map(lambda at: messages.Dropped(*at[0], at[1])),
        st.just(messages.StdlibTrackerRuns()),
        st.just(messages.Root(5, 55, "app", "sem.mp-5-")),
    ),
    max_size=40,
)


@given(EVENTS, st.integers(0, 10_000))
def test_a_ledger_that_was_cut_short_gives_all_but_its_last_record(events, cut):
    """Its writer may be killed at any byte."""
    whole = [write_record(record) for record in events]
    data = b"".join(whole)
    cut = min(cut, len(data))
    found = [record for _, record in read_records(data[:cut])]
    assert found == events[: len(found)]
    assert sum(map(len, whole[: len(found)])) <= cut
    assert len(found) == len(events) or sum(map(len, whole[: len(found) + 1])) > cut
    ends = [end for end, _ in read_records(data)]
    assert ends == [sum(map(len, whole[: number + 1])) for number in range(len(whole))]


@given(st.binary(max_size=100))
def test_any_bytes_give_records_or_none(data):
    for end, record in read_records(data):
        assert end <= len(data) and isinstance(record, messages.Message)


@given(MESSAGES)
def test_a_record_is_given_back_as_it_was_written(message):
    assert [record for _, record in read_records(write_record(message))] == [message]
