from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.words.examples import KINDS, MESSAGES, build, make
from warmfork._words import feed, messages
from warmfork._words.messages import BY_TAG
from warmfork._words.wire import FIXED, LARGEST, MOST_ITEMS, Reader, WireError, decode, encode, encode_text, fit

ALL = 1 << 30


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_message_comes_back_as_it_was(kind):
    @given(build(kind))
    def check(message):
        again = decode(encode(message))
        assert again == message
        assert type(again) is kind
        assert [type(value) for value in again] == [type(value) for value in message]

    check()


@st.composite
def nearly_messages(draw: st.DrawFn) -> bytes:
    """The bytes of a message with some cut off, changed, or added: what random bytes never come near."""
    data = bytearray(encode(draw(MESSAGES), ALL))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        change = draw(st.sampled_from(["cut", "change", "drop", "add", "huge"]))
        if change == "cut":
            del data[at:]
        elif change == "change" and data:
            data[at] = draw(st.integers(0, 255))
        elif change == "drop":
            del data[at : at + draw(st.integers(1, 8))]
        elif change == "add":
            data[at:at] = draw(st.binary(min_size=1, max_size=8))
        else:
            data[at : at + 4] = b"\xff\xff\xff\xff"
    return bytes(data)


@settings(max_examples=500)
@given(
    st.binary(max_size=200)
    | st.tuples(st.sampled_from(sorted(BY_TAG)), st.binary(max_size=100)).map(
        lambda parts: bytes((parts[0],)) + parts[1]
    )
    | nearly_messages()
)
@example(b"")
@example(bytes((messages.Welcome.TAG,)) + b"\0" * 32 + b"\xff\xff\xff\xff")
def test_any_bytes_are_a_message_or_a_wire_error_and_nothing_else(data):
    try:
        message = decode(data)
    except WireError:
        return
    assert encode(message, ALL) == data, "two encodings of one message"


@given(MESSAGES, st.binary(min_size=1, max_size=9))
def test_bytes_behind_a_message_are_refused(message, more):
    with pytest.raises(WireError):
        decode(encode(message) + more)


@given(MESSAGES.filter(lambda message: message.KINDS), st.data())
def test_a_message_cut_anywhere_is_refused(message, data):
    whole = encode(message)
    with pytest.raises(WireError):
        decode(whole[: data.draw(st.integers(0, len(whole) - 1))])


def test_a_count_that_the_bytes_cannot_hold_is_refused_without_looping():
    data = bytes((messages.Unsafe.TAG,)) + (2**32 - 1).to_bytes(4, "little")
    with pytest.raises(WireError, match="4294967295 items in 5 bytes"):
        decode(data)


@pytest.mark.parametrize("counts", [(MOST_ITEMS + 1,), (MOST_ITEMS, 1)])
def test_more_strings_than_a_message_may_have_are_refused_without_reading_them(counts: tuple[int, ...]):
    """A spec of 64 MiB of empty ones held the tracker up for 9 seconds."""
    reader = Reader(b"\0" + b"".join([count.to_bytes(4, "little") + bytes(4 * count) for count in counts]))
    for count in counts[:-1]:
        assert reader.read("tuple[str, ...]") == ("",) * count
    at = reader.at
    with pytest.raises(WireError, match=f"{counts[-1]} items in"):
        reader.read("tuple[str, ...]")
    assert reader.at == at + 4


@pytest.mark.parametrize(
    ("name", "size"), [("Spawned", 17), ("Exited", 49), ("Launch", 9), ("Became", 1), ("Hello", 25), ("Ask", 17)]
)
def test_what_is_said_at_each_start_has_a_fixed_size(name, size):
    kind = getattr(messages, name)
    assert kind.TAG in FIXED
    assert len(encode(make(kind))) == size


def test_a_message_over_the_limit_is_refused_before_it_is_sent():
    head = len(encode(messages.Returned(0, 0, b"")))
    fits = messages.Returned(1, 0, b"x" * (LARGEST - head))
    assert len(encode(fits)) == LARGEST
    with pytest.raises(WireError, match=f"Returned of {LARGEST + 1} bytes is over the {LARGEST} of one message"):
        encode(messages.Returned(1, 0, b"x" * (LARGEST - head + 1)))


def test_what_is_sent_in_the_message_and_not_in_a_memfd_fits_in_one():
    text = "x" * 16_000  # tracebacks are cut to that
    for message in (
        messages.Returned(feed.INLINE, 0, b"x" * feed.INLINE),
        messages.Raised(feed.INLINE, 0, b"x" * feed.INLINE, text[:16_000]),
        messages.BirthFailed("payload", "x" * 2000, text),
        messages.PreloadFailed("module", "x" * 4000, text),
    ):
        assert len(encode(message)) <= LARGEST


def test_text_that_no_bytes_stand_for_is_sent_escaped():
    """A lone surrogate in an exception's text must not keep the client from learning of the exception."""
    told = decode(encode(messages.Raised(0, 0, b"", "bad \ud800 and \udcff")))
    assert told.text == "bad \\ud800 and \\udcff"


TEXTS = "", "plain", "漢" * 30_000, "\udcff" * 50_000, "😀" * 20_000, "\ud800" * 10_000, "n" * 70_000


@pytest.mark.parametrize("number", range(len(TEXTS)))
@pytest.mark.parametrize("most", [10, 1000, 16_000])
def test_a_text_of_any_length_fits_after_it_was_cut(number: int, most: int):
    """What counts is bytes, not letters. Bytes of file names that are no UTF-8 stay what they are."""
    text = TEXTS[number]
    cut = fit(text, most)
    whole, part = encode_text(text), encode_text(cut)
    assert part == whole[:most] and (cut == text or len(whole) > most)
    assert decode(encode(messages.Noted(cut))) == messages.Noted(cut)
