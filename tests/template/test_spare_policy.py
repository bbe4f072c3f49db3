"""How many spares a client gets is learnt from its own traffic."""

from __future__ import annotations

from warmfork._template import spares
from warmfork._template.spares import AUTO, SparePolicy


def test_a_program_that_starts_one_process_gets_no_spare():
    traffic = SparePolicy(AUTO)
    traffic.note_start(100.0, missed=True)
    assert not traffic.lacks()


def test_a_second_start_soon_after_the_first_earns_a_spare_and_a_pause_loses_it():
    traffic = SparePolicy(AUTO)
    traffic.note_start(100.0, missed=True)
    traffic.note_start(100.5, missed=True)
    assert traffic.lacks()
    traffic.note_start(200.0, missed=True)
    assert not traffic.lacks()


def start_burst(traffic: SparePolicy, at: float, length: int) -> None:
    """Start so many at a time: the first while no other child lives."""
    for number in range(length):
        traffic.note_start(at + 0.003 * number, missed=True, beside=number > 0)


def test_the_second_burst_earns_as_many_spares_as_both_have_starts(monkeypatch):
    monkeypatch.setattr(spares, "count_processors", lambda: 2)
    traffic = SparePolicy(AUTO)
    start_burst(traffic, 100.0, 8)
    assert traffic.target == 2, "most programs have one pool"
    start_burst(traffic, 101.0, 6)
    assert traffic.target == 6
    start_burst(traffic, 102.0, 40)
    assert traffic.target == 6
    start_burst(traffic, 103.0, 40)
    assert traffic.target == spares.MOST


def test_several_starts_at_a_time_are_a_burst_and_very_many_a_stream():
    traffic = SparePolicy(AUTO)
    start_burst(traffic, 100.0, 1)
    assert not traffic.is_in_burst()
    start_burst(traffic, 101.0, 8)
    assert traffic.is_in_burst()
    start_burst(traffic, 102.0, 100)
    assert not traffic.is_in_burst(), "spares would never be forked in it"


def test_a_burst_that_is_long_ago_earns_nothing(monkeypatch):
    monkeypatch.setattr(spares, "count_processors", lambda: 2)
    traffic = SparePolicy(AUTO)
    start_burst(traffic, 100.0, 8)
    start_burst(traffic, 100.0 + 2 * spares.LIFE, 8)
    assert traffic.target == 2


def test_starts_one_after_the_other_are_no_burst(monkeypatch):
    """However many there are, and where they are far apart also beside others that live."""
    monkeypatch.setattr(spares, "count_processors", lambda: 2)
    traffic = SparePolicy(AUTO)
    for number in range(100):
        traffic.note_start(100.0 + 0.003 * number, missed=True)
    for number in range(100):
        traffic.note_start(101.0 + 0.2 * number, missed=True, beside=True)
    assert traffic.target == 2
