"""Datagrams as bytes."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from tailrace import limits
from tailrace.store import Change, Chunk, Offset
from tailrace.store.sqlite.datagram import HEAD_BYTES, Datagram, body_of, head_of, parse

SENDER = b"12345678"
NUMBERS = st.integers(0, 10**16 - 1)


def appended(path: str, start: int, *data: bytes, generation: int = 7) -> Change:
    chunks: list[Chunk] = []
    position = start
    for piece in data:
        position += len(piece)
        chunks.append(Chunk(piece, Offset(generation, position)))
    tail = Offset(generation, position)
    return Change(path, generation, tail, Offset(generation, start), tuple(chunks))


@st.composite
def changes(draw: st.DrawFn) -> Change:
    path = draw(st.text(min_size=1).filter(lambda path: path.isprintable()))
    if draw(st.booleans()):
        data = draw(st.lists(st.binary(min_size=1, max_size=20), max_size=4))
        return appended(path, draw(st.integers(0, 1000)), *data)
    tail = Offset(draw(NUMBERS), draw(NUMBERS))
    closed, deleted = draw(st.booleans()), draw(st.booleans())
    return Change(path, draw(NUMBERS), tail, tail, None, closed, deleted)


def sent(*items: Change, counter: int = 1) -> bytes:
    return head_of(SENDER, counter) + body_of(items)


@given(st.lists(changes(), max_size=5), st.integers(0, 2**64 - 1))
def test_what_is_said_is_heard(items: list[Change], counter: int) -> None:
    assert parse(sent(*items, counter=counter)) == Datagram(SENDER, counter, tuple(items))


@given(st.binary(max_size=200))
def test_bytes_of_somebody_else_are_nothing(data: bytes) -> None:
    assert parse(data) is None


@given(st.lists(changes(), min_size=1, max_size=3), st.data())
def test_a_damaged_one_is_refused_or_is_a_datagram(
    items: list[Change], data: st.DataObject
) -> None:
    whole = sent(*items)
    at = data.draw(st.integers(HEAD_BYTES, len(whole) - 1))
    damaged = whole[:at] + data.draw(st.binary(max_size=3)) + whole[at + 1 :]
    datagram = parse(damaged)
    if datagram is None or datagram.changes is None:
        return
    for change in datagram.changes:
        if change.chunks is not None:
            size = sum(len(chunk.data) for chunk in change.chunks)
            assert change.tail.position - change.start.position == size


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(), inner, max_size=2),
        max_leaves=30,
    )
)
def test_json_of_any_other_shape_is_refused(value: object) -> None:
    text = json.dumps(value).encode()
    datagram = parse(head_of(SENDER, 1) + len(text).to_bytes(4, "big") + text)
    assert datagram is None or datagram.changes == ()


def test_a_deep_nesting_is_refused() -> None:
    text = b"[" * 100_000
    assert parse(head_of(SENDER, 1) + len(text).to_bytes(4, "big") + text) is None


def test_data_goes_with_it_up_to_the_limit_and_not_a_byte_more() -> None:
    at_limit = parse(sent(appended("a", 0, b"x" * limits.HINT_BYTES)))
    assert at_limit is not None
    assert at_limit.changes is not None
    assert at_limit.changes[0].chunks is not None
    beyond = parse(sent(appended("a", 0, b"x" * (limits.HINT_BYTES + 1))))
    assert beyond is not None
    assert beyond.changes == (Change("a", 7, Offset(7, 32769), Offset(7, 32769), None),)


def test_small_data_goes_along_though_other_data_is_too_large() -> None:
    datagram = parse(sent(appended("a", 0, b"x" * 40_000), appended("b", 0, b"small")))
    assert datagram is not None
    assert datagram.changes is not None
    assert [change.chunks is not None for change in datagram.changes] == [False, True]


def test_too_many_changes_are_one_word_that_something_happened() -> None:
    many = [appended("p" * 1000 + str(number), 0, b"x") for number in range(500)]
    assert body_of(many) == b""
    assert parse(sent(*many)) == Datagram(SENDER, 1, None)
