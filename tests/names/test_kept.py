"""Names are a set; they go with the tree, or with the last of their holders."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.words.test_ledger import EVENTS, KINDS, NAMES
from warmfork._names.kept import KeptNames
from warmfork._tracker.book import Book
from warmfork._words import messages


def make(records) -> KeptNames:
    kept = KeptNames()
    for record in records:
        kept.take(record)
    return kept


def read_kept(book: Book) -> KeptNames:
    """What a tracker that starts with this ledger would keep."""
    kept = KeptNames()
    book.give(kept)
    return kept


def show(kept: KeptNames) -> object:
    return (
        {key: (entry.maker, entry.title, entry.holders, entry.folder) for key, entry in kept.entries.items()},
        kept.mixed,
    )


@given(
    st.lists(
        st.tuples(st.sampled_from(["register", "unregister"]), st.sampled_from(KINDS), st.sampled_from(NAMES)),
        max_size=40,
    )
)
def test_names_are_a_set(events):
    """However often one was registered, whoever unregisters it clears it (rows 61 and 62)."""
    kept, names = KeptNames(), {}
    for maker, (event, kind, name) in enumerate(events):
        if event == "register":
            kept.take(messages.Entered(kind, name, maker, "title", 0, 0))
            names.setdefault((kind, name), maker)
        else:
            kept.take(messages.Dropped(kind, name, 0))
            names.pop((kind, name), None)
    made = {key: entry.maker for key, entry in kept.entries.items()}
    assert made == names, "its first maker is the one who is named"


def test_a_semaphore_and_a_segment_of_one_name_are_two():
    kept = make(messages.Entered(kind, "/same", 1, "", 0, 0) for kind in KINDS)
    kept.take(messages.Dropped("semaphore", "/same", 0))
    assert list(kept.entries) == [("shared_memory", "/same")]


def test_a_name_goes_with_the_last_of_its_holders():
    kept = make(messages.NameHeld("file", "/a", pid, pid, "", 0, 0) for pid in (1, 2))
    assert [entry.name for entry in kept.list_held(1)] == ["/a"]
    kept.take(messages.Dropped("file", "/a", 1))
    assert kept.list_held(1) == []
    assert list(kept.entries) == [("file", "/a")], "2 holds it"
    kept.take(messages.Dropped("file", "/a", 2))
    assert not kept.entries


def test_a_name_of_the_tree_has_no_holder_whose_death_could_take_it():
    """M7: a worker makes a segment, returns its name and exits."""
    kept = make([messages.Entered("file", "/a", 1, "", 0, 0), messages.NameHeld("file", "/a", 1, 1, "", 0, 0)])
    assert kept.list_held(1) == []


@given(EVENTS)
def test_what_is_kept_is_known_again_from_its_own_records(events):
    """What the tracker writes when it writes its kept anew; and what its successor makes of it (M20)."""
    kept = make(events)
    again = make(kept.records())
    assert show(again) == show(kept)
