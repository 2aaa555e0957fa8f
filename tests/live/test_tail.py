"""The last changes: found by where they begin, bounded in bytes."""

from __future__ import annotations

import pytest

from tailrace import limits
from tailrace.live.tail import Entry, TailCache, after
from tailrace.store import Chunk, Offset
from tests.live.formats import Traced
from tests.live.test_broadcast import change


def at(position: int) -> Offset:
    return Offset(1, position)


def cache_of(*sizes: int) -> TailCache:
    cache, start = TailCache(), 0
    for size in sizes:
        cache.add(change(start, b"x" * size))
        start += size
    return cache


def found(entry: Entry | None) -> tuple[int, int] | None:
    return None if entry is None else (entry.part.start.position, entry.part.end.position)


def test_a_change_is_found_by_where_it_begins() -> None:
    cache = cache_of(10, 20, 30)
    assert [found(cache.at(at(place))) for place in (0, 10, 30)] == [(0, 10), (10, 30), (30, 60)]


def test_the_rest_of_a_change_is_found_by_a_place_within_it() -> None:
    cache = cache_of(10, 20, 30)
    assert found(cache.at(at(12))) == (12, 30)
    entry = cache.at(at(12))
    assert entry is not None
    assert len(entry.part.data) == 18


def test_nothing_is_found_at_the_tail_beyond_it_and_before_the_first() -> None:
    cache = cache_of(10, 20)
    assert cache.at(at(30)) is None
    assert cache.at(at(99)) is None
    cache = TailCache()
    cache.add(change(10, b"x"))
    assert cache.at(at(3)) is None


def test_an_offset_of_another_stream_finds_nothing() -> None:
    assert cache_of(10, 20).at(Offset(2, 10)) is None


def test_the_oldest_go_when_there_is_too_much() -> None:
    size = limits.RECENT_BYTES // 8
    cache = cache_of(*[size] * 20)
    assert cache.at(at(0)) is None
    assert found(cache.at(at(size * 19))) == (size * 19, size * 20)
    assert cache.size + size <= limits.RECENT_BYTES


@pytest.mark.parametrize(("extra", "kept"), [(0, 2), (1, 1)])
def test_what_fits_exactly_is_kept_and_not_a_byte_more(extra: int, kept: int) -> None:
    objects = 2 * 1024
    cache = cache_of(100, limits.RECENT_BYTES - objects - 100 + extra)
    assert len(cache) == kept


def test_what_formats_made_of_it_counts_too() -> None:
    size = limits.RECENT_BYTES // 20
    plain, framed = cache_of(*[size] * 12), TailCache()
    for number in range(12):
        entry = change(number * size, b"x" * size)
        framed.add(entry)
        entry.frame(Traced())
    assert len(plain) == 12
    assert len(framed) < 10


def test_many_small_changes_are_bounded_too() -> None:
    assert len(cache_of(*[1] * 10_000)) <= limits.RECENT_BYTES // 1024


def test_the_last_change_is_kept_whatever_its_size() -> None:
    cache = cache_of(10, limits.RECENT_BYTES + 1)
    assert len(cache) == 1
    assert cache.at(at(10)) is not None


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
