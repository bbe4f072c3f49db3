from __future__ import annotations

import pytest

from tests.architecture.diagrams import ENDS, PAGE, draw_link, fill
from warmfork._words.messages import BY_TAG
from warmfork._words.protocol import FEED, TABLE


def test_the_page_shows_the_table_as_it_is():
    page = PAGE.read_text()
    assert page == fill(page), "run: python -m tests.architecture.diagrams"


def test_the_page_names_every_message_and_no_other():
    page = PAGE.read_text()
    for kind in BY_TAG.values():
        assert f"| `{kind.__name__}` |" in page


def test_every_link_of_the_table_is_drawn():
    assert {link for link, _ in TABLE} == set(ENDS)


def test_a_change_of_the_table_shows_on_the_page(monkeypatch):
    before = draw_link(FEED)
    row = TABLE[FEED, "open"]
    monkeypatch.delitem(row, next(iter(row)))
    assert draw_link(FEED) != before
    page = PAGE.read_text()
    assert fill(page) != page


def test_a_page_without_its_places_is_refused():
    with pytest.raises(ValueError, match="0 parts links"):
        fill("nothing")
