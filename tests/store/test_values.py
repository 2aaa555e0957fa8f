"""Values of a store: offsets as tokens, and what is read in one piece."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.errors import InvalidOffset
from tailrace.store import START, Chunk, Mark, Offset, Retention, Slice, StreamInfo
from tailrace.store.values import Cut

NUMBERS = st.integers(0, 10**16 - 1)
OFFSETS = st.builds(Offset, NUMBERS, NUMBERS)


@given(OFFSETS)
def test_a_token_is_read_back_as_the_offset_that_it_stands_for(offset: Offset) -> None:
    assert Offset.parse(str(offset)) == offset


@given(OFFSETS, OFFSETS)
def test_tokens_sort_as_offsets_do(one: Offset, other: Offset) -> None:
    assert (one < other) == (str(one) < str(other))
    assert (one == other) == (str(one) == str(other))


@given(OFFSETS)
def test_a_token_needs_no_quoting_and_is_short(offset: Offset) -> None:
    assert len(str(offset)) == 33
    assert not set(str(offset)) - set("0123456789_")


def test_the_start_is_all_zeros() -> None:
    assert str(START) == "0000000000000000_0000000000000000"
    assert Offset.parse("0000000000000000_0000000000000000") == START


def test_the_greatest_token_is_an_offset() -> None:
    token = "9999999999999999_9999999999999999"
    assert str(Offset.parse(token)) == token


def test_no_mark_is_an_offset() -> None:
    assert {mark.value for mark in Mark} == {"-1", "now"}
    for mark in Mark:
        with pytest.raises(InvalidOffset):
            Offset.parse(mark.value)


GOOD = "0000000000000001_0000000000000002"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "0",
        "-1",
        "now",
        "0_0",
        GOOD[1:],
        GOOD + "0",
        "0" + GOOD,
        GOOD + "\n",
        GOOD + "\r\n",
        GOOD + "\x00",
        " " + GOOD,
        GOOD + " ",
        "+" + GOOD[1:],
        "-" + GOOD[1:],
        GOOD.replace("_", "-"),
        GOOD.replace("_", ","),
        GOOD.replace("_", "__"),
        GOOD[:8] + "_" + GOOD[9:],
        GOOD.replace("1", "a"),
        GOOD.replace("1", "\N{ARABIC-INDIC DIGIT ONE}"),
        GOOD.replace("1", "\N{SUPERSCRIPT ONE}"),
        GOOD.replace("1", "\N{FULLWIDTH DIGIT ONE}"),
        "../" + GOOD[3:],
    ],
)
def test_what_was_never_given_out_is_refused(token: str) -> None:
    with pytest.raises(InvalidOffset) as refused:
        Offset.parse(token)
    assert refused.value.token == token
    assert refused.value.status == 400


@given(st.text())
def test_any_text_is_an_offset_or_refused(token: str) -> None:
    try:
        offset = Offset.parse(token)
    except InvalidOffset:
        return
    assert str(offset) == token


# Chunks in one piece

AT = partial(Offset, 7)


@given(st.lists(st.binary(min_size=1, max_size=5), min_size=1, max_size=8), st.integers(0, 100))
def test_a_cut_is_the_chunks_that_it_is_of(parts: list[bytes], start: int) -> None:
    made: list[Chunk] = []
    for part in parts:
        start += len(part)
        made.append(Chunk(part, AT(start)))
    chunks = tuple(made)
    cut = Cut(b"".join(parts), [chunk.end.position for chunk in chunks], AT)
    assert cut == chunks
    assert chunks == cut
    assert cut == Cut(cut.data, [chunk.end.position for chunk in chunks], AT)
    assert cut != chunks[:-1]
    assert hash(cut) == hash(chunks)
    assert (len(cut), list(cut), list(reversed(cut))) == (
        len(chunks),
        list(chunks),
        list(reversed(chunks)),
    )
    for index in range(-len(chunks), len(chunks)):
        assert cut[index] == chunks[index]
        assert cut[index:] == chunks[index:]
        assert cut[:index] == chunks[:index]
    for beyond in (len(chunks), -len(chunks) - 1):
        with pytest.raises(IndexError):
            cut[beyond]


def test_a_slice_of_a_cut_has_its_bytes_without_cutting_it() -> None:
    info = StreamInfo(
        path="s",
        content_type="text/plain",
        first=START,
        tail=AT(6),
        closed=False,
        ttl=None,
        expires_at=None,
        retention=Retention(),
        forked_from=None,
        created_at=1,
    )
    data = b"onetwo"
    whole = Slice(info, START, Cut(data, [3, 6], AT))
    assert whole.data is data
    assert (whole.end, whole.up_to_date) == (AT(6), True)
    assert whole == Slice(info, START, (Chunk(b"one", AT(3)), Chunk(b"two", AT(6))))
