"""Spans: what is missing, and what is asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import limits
from tailrace.cli.download.span import Span, bytes_in, joined, pieces, without

SIZE = 60

edges = st.integers(0, SIZE)
bounds = st.tuples(edges, edges).map(sorted)


def held(spans: tuple[Span, ...]) -> set[int]:
    return {
        at for span in spans for at in range(span.start, SIZE if span.stop is None else span.stop)
    }


@given(st.lists(bounds, max_size=8))
def test_what_was_written_is_no_longer_missing(written: list[list[int]]) -> None:
    missing: tuple[Span, ...] = (Span(0, SIZE),)
    expected = set(range(SIZE))
    for start, stop in written:
        missing = without(missing, start, stop)
        expected -= set(range(start, stop))
    assert held(missing) == expected
    assert bytes_in(missing) == len(expected)
    assert list(missing) == sorted(missing, key=lambda span: span.start)


@given(bounds, bounds)
def test_what_was_lost_is_missing_again(written: list[int], lost: list[int]) -> None:
    missing = without((Span(0, SIZE),), *written)
    again = joined(missing, *lost)
    assert held(again) == held(missing) | set(range(*lost))
    assert bytes_in(again) == len(held(again))


def test_a_span_without_an_end_keeps_none() -> None:
    assert without((Span(0, None),), 0, 10) == (Span(10, None),)
    assert bytes_in((Span(10, None),)) is None


@given(
    st.integers(1, limits.MAX_JOBS),
    st.integers(1, 1 << 40),
    st.integers(0, 1 << 40),
)
def test_pieces_cover_what_is_missing_once_and_in_order(jobs: int, size: int, start: int) -> None:
    size = min(size, 4000 * limits.MAX_PIECE_BYTES)
    at = start
    for piece in pieces([Span(start, start + size)], jobs):
        assert piece.start == at
        assert piece.stop is not None
        assert 0 < piece.stop - piece.start <= limits.MAX_PIECE_BYTES
        at = piece.stop
    assert at == start + size


def test_a_large_file_gives_each_connection_several_pieces() -> None:
    assert len(list(pieces([Span(0, 1 << 30)], 4))) == 4 * limits.PIECES_PER_JOB


def test_pieces_are_not_smaller_than_a_round_trip_is_worth() -> None:
    found = list(pieces([Span(0, 3 * limits.MIN_PIECE_BYTES)], 16))
    assert [piece.size for piece in found] == [limits.MIN_PIECE_BYTES] * 3


@pytest.mark.parametrize(("start", "stop"), [(-1, 5), (5, 4)])
def test_a_span_that_cannot_be_is_refused(start: int, stop: int) -> None:
    with pytest.raises(ValueError, match="no span"):
        Span(start, stop)


def test_the_header_of_a_span_has_an_inclusive_end() -> None:
    assert Span(0, 10).range_header() == "bytes=0-9"
    assert Span(5, None).range_header() == "bytes=5-"
