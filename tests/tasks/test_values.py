from __future__ import annotations

import collections
import enum
import math

import hypothesis.strategies as st
import pytest
from hypothesis import given

from warmfork._tasks import values

KEYS = st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.tuples(st.integers(), st.text())
DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.sets(KEYS, max_size=4)
    ),
    max_leaves=20,
)


@given(DATA)
def test_a_value_comes_back_equal_and_of_the_same_types(value):
    back = values.decode(values.encode(value))
    assert back == value
    assert repr(back) == repr(value) or isinstance(value, (dict, set, list, tuple))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_a_value_error(data):
    """A hostile child's words are read in the program, so the reader must raise nothing else (N57)."""
    try:
        values.decode(data)
    except ValueError:
        return


@given(DATA, st.data())
def test_a_value_with_one_byte_changed_is_a_value_or_a_value_error(value, data):
    """As above, from near what is right."""
    encoded = bytearray(values.encode(value))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        values.decode(bytes(encoded))
    except ValueError:
        return


def test_nan_and_lone_surrogates_and_long_integers_arrive():
    assert math.isnan(values.decode(values.encode(math.nan)))
    for value in ("\udc80", 1 << 4000, -(1 << 4000), 1 << 63, -(1 << 63)):
        assert values.decode(values.encode(value)) == value


def test_subclasses_become_what_they_are_based_on():
    class Color(enum.IntEnum):
        RED = 1

    class Shouting(str):
        def encode(self, *_):
            return b"own code"

    pair = collections.namedtuple("pair", "a b")(1, 2)
    given = [Color.RED, Shouting("a"), pair, collections.OrderedDict(x=1), collections.defaultdict(list, y=2)]
    back = values.decode(values.encode(given))
    assert back == [1, "a", (1, 2), {"x": 1}, {"y": 2}]
    assert [type(item) for item in back] == [int, str, tuple, dict, dict]


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"a": [1, object()]}, r"result\['a'\]\[1\] is no data, but a builtins.object"),
        ([len], r"result\[0\] is no data"),
        ({object: 1}, "a key of result is no data"),
    ],
)
def test_what_is_no_data_is_refused_with_the_way_to_it(value, where):
    with pytest.raises(values.NotData, match=where):
        values.encode(value)


def test_what_contains_itself_is_refused_by_name():
    value: list[object] = [1]
    value.append({"me": value})
    with pytest.raises(values.NotData, match=r"result\[1\]\['me'\] contains itself"):
        values.encode(value)
    shared: list[int] = []
    assert values.decode(values.encode([shared, shared])) == [[], []]


def test_depth_is_bounded_on_both_sides():
    value: list[object] = []
    for _ in range(10_000):
        value = [value]
    with pytest.raises(values.NotData, match="nested too deep"):
        values.encode(value)
    with pytest.raises(ValueError, match="too deep"):
        values.decode(b"l\1\0\0\0" * 10_000 + b"N")


def test_size_is_bounded_on_both_sides():
    with pytest.raises(values.NotData, match="too many"):
        values.encode(bytes(1001), 1000)
    with pytest.raises(values.NotData, match="too large"):
        values.encode(["a" * 400] * 3, 1000)
    with pytest.raises(ValueError, match="too many"):
        values.decode(bytes(1001), 1000)


def test_a_length_that_is_a_lie_takes_no_memory():
    for tag in b"sblteI":
        with pytest.raises(ValueError, match="cut short"):
            values.decode(bytes([tag]) + b"\xff\xff\xff\xff")


def test_more_values_than_a_program_can_bear_are_refused(monkeypatch):
    monkeypatch.setattr(values, "MOST_ITEMS", 10)
    with pytest.raises(values.NotData, match="more than 10 values"):
        values.encode([None] * 10)
    with pytest.raises(ValueError, match="too many parts"):
        values.decode(b"l\x0a\0\0\0" + b"N" * 10)


def test_keys_whose_hashes_can_be_made_to_collide_are_few():
    """20,000 multiples of 2**61 - 1 have one hash between them, and take a dict a minute."""
    clashing = b"".join(b"i" + ((n - 10_000) * ((1 << 61) - 1) % (1 << 63)).to_bytes(8, "little") for n in range(10))
    assert values.decode(b"e\x0a\0\0\0" + clashing)
    assert len(values.decode(values.encode({(n, n, n) for n in range(10_000)}))) == 10_000
    with pytest.raises(ValueError, match="keys"):
        values.decode(values.encode({(n,) for n in range(12_000)}))


@pytest.mark.parametrize("size", [30, 100])
@pytest.mark.parametrize("kind", ["parts", "digits"])
def test_keys_that_take_long_to_compare_are_fewer(kind, size):
    """9,999 tuples of 195 numbers, -1 or -2, which have one hash, take a set more than five minutes."""

    def make(number: int) -> object:
        return (number,) * size if kind == "parts" else (1 << 512 * size) + number

    few = {make(number) for number in range(700)}
    assert values.decode(values.encode(few)) == few
    with pytest.raises(ValueError, match="keys"):
        values.decode(values.encode({make(number) for number in range(7_000)}))


def test_a_key_without_a_hash_is_refused():
    with pytest.raises(ValueError, match="unhashable"):
        values.decode(b"e\1\0\0\0" + b"l\0\0\0\0")
