from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from warmfork._words.ledger import Ledger

KINDS = ["semaphore", "shared_memory"]
NAMES = ["/a", "/b", "/c:d", ""]


def list_names(ledger: Ledger) -> list[tuple[str, str]]:
    return [(entry.kind, entry.name) for entry in ledger.take_all()]


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
            ledger.register(kind, name, maker, "title")
            names.setdefault((kind, name), maker)
        else:
            ledger.unregister(kind, name)
            names.pop((kind, name), None)
    left = ledger.take_all()
    assert {(entry.kind, entry.name): entry.maker for entry in left} == names, "its first maker is the one who is named"
    assert len(left) == len(names)


def test_a_name_that_nobody_registered_is_no_error():
    ledger = Ledger()
    ledger.unregister("semaphore", "/never")
    assert list_names(ledger) == []


def test_a_semaphore_and_a_segment_of_one_name_are_two():
    ledger = Ledger()
    for kind in KINDS:
        ledger.register(kind, "/same", 1, "")
    ledger.unregister("semaphore", "/same")
    assert list_names(ledger) == [("shared_memory", "/same")]


def test_what_was_taken_is_forgotten():
    ledger = Ledger()
    ledger.register("semaphore", "/a", 1, "app")
    assert [(entry.maker, entry.title) for entry in ledger.take_all()] == [(1, "app")]
    assert ledger.take_all() == []
