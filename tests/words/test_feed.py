from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmfork._words import feed

VALUES = st.recursive(
    st.none() | st.integers() | st.binary() | st.text(st.characters()) | st.booleans(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.binary(), inner, max_size=3) | st.tuples(inner, inner)
    ),
    max_leaves=6,
)
STATES = st.dictionaries(st.text(max_size=8), VALUES, max_size=4)


def open_feed(message: bytes, spilled: bytes) -> tuple[dict[str, object], bytes, int]:
    """Do what a child does with it."""
    state, payload, fds, is_spilled = feed.split(message)
    assert is_spilled == bool(spilled)
    content = spilled if is_spilled else message[feed.HEADER.size :]
    assert len(content) == state + payload
    return feed.read_state(content[:state]), content[state:], fds - is_spilled


@given(STATES, st.binary(max_size=100), st.integers(0, 1000))
def test_state_and_payload_come_back_as_they_were(state, payload, fds):
    assert open_feed(*feed.join(state, payload, fds)) == (state, payload, fds)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_payload_may_be_any_buffer(kind):
    assert open_feed(*feed.join({}, kind(b"payload"), 0))[1] == b"payload"


@pytest.mark.parametrize("more", [-1, 0, 1, 10_000_000])
def test_what_does_not_fit_in_one_message_goes_to_memory(more):
    size = feed.INLINE - len(feed.join({"a": 1}, b"", 0)[0]) + feed.HEADER.size + more
    message, spilled = feed.join({"a": 1}, b"x" * size, 4)
    assert bool(spilled) == (more > 0)
    assert len(message) == feed.HEADER.size if spilled else len(message) <= feed.HEADER.size + feed.INLINE
    assert feed.split(message)[2] == (5 if spilled else 4), "the memory is one fd more, the first"
    assert open_feed(message, spilled) == ({"a": 1}, b"x" * size, 4)


@given(st.binary(max_size=60))
def test_any_other_bytes_are_no_feed(data):
    if data[:4] == feed.MAGIC and len(data) >= feed.HEADER.size:
        return
    with pytest.raises(ValueError):
        feed.split(data)


def test_a_message_that_only_brings_more_fds_is_no_feed():
    with pytest.raises(ValueError):
        feed.split(feed.MORE)


def test_each_fd_has_its_own_bit():
    bits = (feed.HAS_DOOR, feed.HAS_IN, feed.HAS_OUT, feed.HAS_ERR, feed.HAS_CWD)
    assert sum(bits) == 2 ** len(bits) - 1


def test_what_does_not_fit_lies_in_a_file_or_follows():
    for follows, count, flag in ((False, 4, feed.SPILLED), (True, 3, feed.FOLLOWS)):
        message, rest = feed.join({"a": 1}, bytes(feed.INLINE), 3, follows)
        state, payload, fds, flags = feed.split(message)
        assert (fds, flags, state + payload) == (count, flag, len(rest))
        assert len(message) == feed.HEADER.size
    message, rest = feed.join({"a": 1}, b"small", 3, True)
    assert feed.split(message)[3] == 0 and rest == b""
