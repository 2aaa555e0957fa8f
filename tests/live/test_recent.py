"""The last changes: found by where they begin, bounded in bytes."""

from __future__ import annotations

import pytest

from tailrace import limits
from tailrace.live.recent import Entry, Recent, after
from tailrace.store import Chunk, Offset
from tests.live.formats import Traced
from tests.live.test_crowd import change


def at(position: int) -> Offset:
    return Offset(1, position)


def recent_of(*sizes: int) -> Recent:
    recent, start = Recent(), 0
    for size in sizes:
        recent.add(change(start, b"x" * size))
        start += size
    return recent


def found(entry: Entry | None) -> tuple[int, int] | None:
    return None if entry is None else (entry.piece.start.position, entry.piece.end.position)


def test_a_change_is_found_by_where_it_begins() -> None:
    recent = recent_of(10, 20, 30)
    assert [found(recent.at(at(place))) for place in (0, 10, 30)] == [(0, 10), (10, 30), (30, 60)]


def test_the_rest_of_a_change_is_found_by_a_place_within_it() -> None:
    recent = recent_of(10, 20, 30)
    assert found(recent.at(at(12))) == (12, 30)
    entry = recent.at(at(12))
    assert entry is not None
    assert len(entry.piece.slice.data) == 18


def test_nothing_is_found_at_the_tail_beyond_it_and_before_the_first() -> None:
    recent = recent_of(10, 20)
    assert recent.at(at(30)) is None
    assert recent.at(at(99)) is None
    recent = Recent()
    recent.add(change(10, b"x"))
    assert recent.at(at(3)) is None


def test_an_offset_of_another_stream_finds_nothing() -> None:
    assert recent_of(10, 20).at(Offset(2, 10)) is None


def test_the_oldest_go_when_there_is_too_much() -> None:
    size = limits.RECENT_BYTES // 8
    recent = recent_of(*[size] * 20)
    assert recent.at(at(0)) is None
    assert found(recent.at(at(size * 19))) == (size * 19, size * 20)
    assert recent.size + size <= limits.RECENT_BYTES


@pytest.mark.parametrize(("extra", "kept"), [(0, 2), (1, 1)])
def test_what_fits_exactly_is_kept_and_not_a_byte_more(extra: int, kept: int) -> None:
    objects = 2 * 1024
    recent = recent_of(100, limits.RECENT_BYTES - objects - 100 + extra)
    assert len(recent) == kept


def test_what_formats_made_of_it_counts_too() -> None:
    size = limits.RECENT_BYTES // 20
    plain, framed = recent_of(*[size] * 12), Recent()
    for number in range(12):
        entry = change(number * size, b"x" * size)
        framed.add(entry)
        entry.frame(Traced())
    assert len(plain) == 12
    assert len(framed) < 10


def test_many_small_changes_are_bounded_too() -> None:
    assert len(recent_of(*[1] * 10_000)) <= limits.RECENT_BYTES // 1024


def test_the_last_change_is_kept_whatever_its_size() -> None:
    recent = recent_of(10, limits.RECENT_BYTES + 1)
    assert len(recent) == 1
    assert recent.at(at(10)) is not None


def test_a_change_is_framed_once_for_each_format() -> None:
    entry = change(0, b"abc")
    assert entry.frame(Traced()) is entry.frame(Traced())
    assert entry.frame(Traced("other")) is not entry.frame(Traced())


def test_what_follows_an_offset_begins_in_mid_chunk() -> None:
    chunks = (Chunk(b"abc", at(3)), Chunk(b"def", at(6)))
    assert after(chunks, at(0)) == chunks
    assert after(chunks, at(4)) == (Chunk(b"ef", at(6)),)
    assert after(chunks, at(3)) == (Chunk(b"def", at(6)),)
    assert after(chunks, at(6)) == ()
