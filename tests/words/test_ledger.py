from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.words.examples import MESSAGES
from warmfork._words import messages
from warmfork._words.ledger import Ledger, read_records, write_record

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


def make(records) -> Ledger:
    ledger = Ledger()
    for record in records:
        ledger.take(record)
    return ledger


def show(ledger: Ledger) -> object:
    return (
        {key: (entry.maker, entry.title, entry.holders, entry.folder) for key, entry in ledger.entries.items()},
        ledger.root,
        ledger.mixed,
    )


@given(
    st.lists(
        st.tuples(st.sampled_from(["register", "unregister"]), st.sampled_from(KINDS), st.sampled_from(NAMES)),
        max_size=40,
    )
)
def test_names_are_a_set(events):
    """However often one was registered, whoever unregisters it clears it (rows 61 and 62)."""
    ledger, names = Ledger(), {}
    for maker, (event, kind, name) in enumerate(events):
        if event == "register":
            ledger.take(messages.Entered(kind, name, maker, "title", 0, 0))
            names.setdefault((kind, name), maker)
        else:
            ledger.take(messages.Dropped(kind, name, 0))
            names.pop((kind, name), None)
    made = {key: entry.maker for key, entry in ledger.entries.items()}
    assert made == names, "its first maker is the one who is named"


def test_a_semaphore_and_a_segment_of_one_name_are_two():
    ledger = make(messages.Entered(kind, "/same", 1, "", 0, 0) for kind in KINDS)
    ledger.take(messages.Dropped("semaphore", "/same", 0))
    assert list(ledger.entries) == [("shared_memory", "/same")]


def test_a_name_goes_with_the_last_of_its_holders():
    ledger = make(messages.NameHeld("file", "/a", pid, pid, "", 0, 0) for pid in (1, 2))
    assert [entry.name for entry in ledger.list_held(1)] == ["/a"]
    ledger.take(messages.Dropped("file", "/a", 1))
    assert ledger.list_held(1) == []
    assert list(ledger.entries) == [("file", "/a")], "2 holds it"
    ledger.take(messages.Dropped("file", "/a", 2))
    assert not ledger.entries


def test_a_name_of_the_tree_has_no_holder_whose_death_could_take_it():
    """M7: a worker makes a segment, returns its name and exits."""
    ledger = make([messages.Entered("file", "/a", 1, "", 0, 0), messages.NameHeld("file", "/a", 1, 1, "", 0, 0)])
    assert ledger.list_held(1) == []


@given(EVENTS)
def test_a_ledger_is_made_again_from_its_own_records(events):
    """What the tracker writes when it writes its ledger anew; and what its successor makes of it (M20)."""
    ledger = make(events)
    again = make(ledger.records())
    assert show(again) == show(ledger)


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
