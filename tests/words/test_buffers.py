from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmfork._words import buffers
from warmfork._words.buffers import SMALLEST, lay_out, run

SIZES = st.lists(st.integers(SMALLEST, 3 << 20), max_size=40).map(tuple)


@given(SIZES)
def test_in_a_file_each_buffer_has_pages_of_its_own_and_the_pickle_comes_last(sizes):
    places, end = lay_out(sizes, 4096)
    free = 8 * len(sizes)
    for place, size in zip(places, sizes, strict=True):
        assert place % 4096 == 0 and place >= free
        free = place + size
    assert end >= free


def find_views(pickled):
    return [part for part in pickled.parts if isinstance(part, memoryview)]


def test_ten_thousand_buffers_do_not_take_ten_thousand_mappings(monkeypatch):
    """A process may have 65,530 of them; what is left in the pickle comes back as it was, and is not copied before."""
    monkeypatch.setattr(buffers, "MOST", 3)
    values = [bytearray(bytes([number]) * SMALLEST) for number in range(5)]
    pickled = run(pickle.Pickler, [pickle.PickleBuffer(value) for value in values], True)
    assert len(pickled.buffers) == 3
    assert [part.obj is value for part, value in zip(find_views(pickled), values[3:], strict=True)] == [True, True]
    assert [bytes(part) for part in pickle.loads(b"".join(pickled.parts), buffers=pickled.buffers)] == values


LARGE_BYTES = bytes(range(256)) * 1024
VALUES = [
    1,
    {"a": [LARGE_BYTES, LARGE_BYTES]},
    bytearray(LARGE_BYTES),
    "é" * 100_000,
    pickle.PickleBuffer(bytearray(LARGE_BYTES)),
    [pickle.PickleBuffer(LARGE_BYTES), pickle.PickleBuffer(b"small"), list(range(50_000))],
]


def plain(value):
    """A PickleBuffer by itself comes back as whatever buffer there is: bytes, or a view of memory."""
    if isinstance(value, list):
        return [plain(part) for part in value]
    return bytes(value) if isinstance(value, (bytearray, memoryview)) else value


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("out_of_band", [True, False])
def test_what_is_pickled_in_parts_is_what_pickle_gives(value, out_of_band):
    pickled = run(pickle.Pickler, value, out_of_band)
    got = pickle.loads(b"".join(pickled.parts), buffers=pickled.buffers)
    assert plain(got) == plain(pickle.loads(pickle.dumps(value, 5)))
    if not out_of_band:
        assert pickled.buffers == [] and all(type(part) is bytes for part in pickled.parts)


def test_large_bytes_and_buffers_are_not_copied():
    data, buffer = bytes(1_000_000), bytearray(1_000_000)
    pickled = run(pickle.Pickler, [data, pickle.PickleBuffer(buffer)], True)
    assert any(part is data for part in pickled.parts)
    assert [view.obj for view in pickled.buffers] == [buffer]
    assert sum(map(len, pickled.parts)) < 1_000_100


def test_a_buffer_below_64_kib_stays_in_the_pickle():
    small, enough = (pickle.PickleBuffer(bytearray(size)) for size in (SMALLEST - 1, SMALLEST))
    assert run(pickle.Pickler, small, True).buffers == []
    assert [len(view) for view in run(pickle.Pickler, enough, True).buffers] == [SMALLEST]


def test_a_buffer_in_the_order_of_fortran_keeps_the_order_of_its_memory():
    numpy = pytest.importorskip("numpy")
    array = numpy.asfortranarray(numpy.arange(40_000.0).reshape(100, 400))
    for out_of_band in (True, False):
        pickled = run(pickle.Pickler, array, out_of_band)
        assert (pickle.loads(b"".join(pickled.parts), buffers=pickled.buffers) == array).all()
        assert out_of_band or array.tobytes("F") in b"".join(pickled.parts)
