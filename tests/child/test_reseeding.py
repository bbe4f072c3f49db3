"""Random numbers: each child draws its own, unless the program chose them."""

from __future__ import annotations

import pytest

from tests.support import run_forked
from warmfork._child import reseeding

numpy = pytest.importorskip("numpy")


@pytest.fixture(autouse=True)
def nothing_prepared(monkeypatch):
    monkeypatch.setattr(reseeding, "_reseeders", [])


class Unseeded:
    """The module numpy.random.mtrand with a global generator that nobody seeded."""

    def __init__(self) -> None:
        self._rand = numpy.random.RandomState(numpy.random.MT19937())
        self.seeds = 0

    def seed(self, seed: None) -> None:
        self.seeds += 1
        self._rand.seed(seed)


def prepare(monkeypatch, mtrand: Unseeded) -> None:
    monkeypatch.setitem(reseeding.sys.modules, "numpy.random.mtrand", mtrand)
    monkeypatch.delitem(reseeding.sys.modules, "torch", raising=False)
    reseeding.prepare()


def draw(mtrand: Unseeded) -> list[float]:
    reseeding.reseed()
    return [float(number) for number in mtrand._rand.random(1000)]


def test_forks_draw_other_numbers_and_these_are_spread_as_they_should_be(monkeypatch):
    mtrand = Unseeded()
    prepare(monkeypatch, mtrand)
    assert mtrand.seeds == 1, "its seed sequence is forgotten: children that spawned from it would share streams"
    drawn = [run_forked(draw, mtrand) for _ in range(4)]
    assert len({number for numbers in drawn for number in numbers}) == 4000
    for numbers in drawn:
        assert 0.45 < sum(numbers) / 1000 < 0.55
        assert min(numbers) < 0.02 and max(numbers) > 0.98
    assert mtrand.seeds == 1, "this process was left alone: each fork seeded its own copy"


def test_a_generator_that_was_seeded_is_not_touched(monkeypatch):
    mtrand = Unseeded()
    mtrand._rand.seed(7)
    prepare(monkeypatch, mtrand)
    assert mtrand.seeds == 0
    assert draw(mtrand) == [float(number) for number in numpy.random.RandomState(7).random(1000)]


def test_what_has_not_what_numpy_has_is_left_alone(monkeypatch):
    monkeypatch.setitem(reseeding.sys.modules, "numpy.random.mtrand", object())
    monkeypatch.setitem(reseeding.sys.modules, "torch", object())
    reseeding.prepare()
    assert reseeding._reseeders == []
