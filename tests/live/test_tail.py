"""The tail: what changes and reads tell of it; and the last changes, bounded in bytes."""

from __future__ import annotations

from typing import Any

import pytest

from tailrace import limits
from tailrace.live.tail import Act, Entry, Tail, TailCache, TailState, after
from tailrace.store import Change, Chunk, Offset, Retention, Slice, StreamInfo
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


def place_of(entry: Entry | None) -> tuple[int, int] | None:
    return None if entry is None else (entry.part.start.position, entry.part.end.position)


def test_a_change_is_found_by_where_it_begins() -> None:
    cache = cache_of(10, 20, 30)
    assert [place_of(cache.at(at(place))) for place in (0, 10, 30)] == [(0, 10), (10, 30), (30, 60)]


def test_the_rest_of_a_change_is_found_by_a_place_within_it() -> None:
    cache = cache_of(10, 20, 30)
    assert place_of(cache.at(at(12))) == (12, 30)
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
    assert place_of(cache.at(at(size * 19))) == (size * 19, size * 20)
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


# What is known of the tail ------------------------------------------------------------------------


def info_at(tail: int, *, closed: bool = False, created_at: int = 0) -> StreamInfo:
    return StreamInfo(
        path="s",
        content_type="text/plain",
        first=at(0),
        tail=at(tail),
        closed=closed,
        ttl=None,
        expires_at=None,
        retention=Retention(),
        forked_from=None,
        created_at=created_at,
        generation=1,
    )


def found(start: int, end: int, tail: int | None = None, **facts: Any) -> Slice:
    """What a read finds."""
    info = info_at(end if tail is None else tail, **facts)
    data = b"x" * (end - start)
    return Slice(info, at(start), (Chunk(data, at(end)),) if data else ())


def told(start: int, end: int, *, whole: bool = True, **facts: bool) -> Change:
    """What a store tells of an append."""
    chunks = (Chunk(b"x" * (end - start), at(end)),) if end > start else ()
    return Change("s", 1, at(end), at(start), chunks if whole else None, **facts)


def span_of(act: Slice | Act | None) -> tuple[int, int] | Act | None:
    return (act.start.position, act.end.position) if isinstance(act, Slice) else act


def spans_of(acts: list[Slice | Act]) -> list[Any]:
    return [span_of(act) for act in acts]


BARE = told(3, 5, whole=False)


def tail_in(state: TailState) -> Tail:
    """The tail of a stream of three bytes, in a state."""
    tail = Tail()
    if state is TailState.UNKNOWN:
        return tail
    tail.learned(found(0, 3), 0)
    if state in (TailState.STALE, TailState.REFRESHING):
        tail.hinted()
    if state is TailState.REFRESHING:
        tail.refreshing()
    if state is TailState.CLOSED:
        tail.changed(told(3, 3, closed=True))
    if state is TailState.DELETED:
        tail.deleted()
    assert tail.state is state
    return tail


S = TailState


@pytest.mark.parametrize(
    ("state", "change", "act", "after"),
    [
        (S.UNKNOWN, told(3, 5), Act.LOOK, S.UNKNOWN),
        (S.UNKNOWN, told(3, 3, deleted=True), Act.END, S.DELETED),
        (S.CURRENT, told(3, 5), (3, 5), S.CURRENT),
        (S.CURRENT, told(1, 3), None, S.CURRENT),  # it was told twice
        (S.CURRENT, told(0, 1), None, S.CURRENT),  # it was read before it was told
        (S.CURRENT, BARE, Act.READ, S.STALE),
        (S.CURRENT, told(4, 5), Act.READ, S.STALE),  # the one before it was not told
        (S.CURRENT, told(3, 5, closed=True), (3, 5), S.CLOSED),
        (S.CURRENT, told(3, 3, closed=True), (3, 3), S.CLOSED),
        (S.CURRENT, told(3, 3, deleted=True), Act.END, S.DELETED),
        (S.STALE, told(3, 5), (3, 5), S.STALE),
        (S.STALE, BARE, Act.READ, S.STALE),
        (S.REFRESHING, told(3, 5), None, S.REFRESHING),
        (S.REFRESHING, BARE, None, S.REFRESHING),
        (S.REFRESHING, told(3, 3, deleted=True), Act.END, S.DELETED),
        (S.CLOSED, told(3, 5), None, S.CLOSED),
        (S.CLOSED, told(3, 3, deleted=True), None, S.CLOSED),
        (S.DELETED, told(3, 5), None, S.DELETED),
    ],
)
def test_what_a_change_means(state: TailState, change: Change, act: Any, after: TailState) -> None:
    tail = tail_in(state)
    assert span_of(tail.changed(change)) == act
    assert tail.state is after


@pytest.mark.parametrize(
    ("state", "read", "acts", "after"),
    [
        (S.UNKNOWN, found(0, 3), [], S.CURRENT),
        (S.UNKNOWN, found(0, 3, 9), [], S.UNKNOWN),  # it has not come to the tail
        (S.UNKNOWN, found(0, 3, closed=True), [(3, 3)], S.CLOSED),
        (S.CURRENT, found(0, 2, 3), [], S.CURRENT),  # by a reader that is behind
        (S.CURRENT, found(1, 5), [(3, 5)], S.CURRENT),
        (S.CURRENT, found(1, 5, 9), [(3, 5), Act.READ], S.STALE),
        (S.CURRENT, found(4, 5), [Act.READ], S.STALE),
        (S.CURRENT, found(3, 3, closed=True), [(3, 3)], S.CLOSED),
        (S.CURRENT, found(0, 3, created_at=7), [Act.END], S.DELETED),
        (S.STALE, found(3, 5), [(3, 5)], S.CURRENT),
        (S.STALE, found(3, 3), [], S.CURRENT),
        (S.REFRESHING, found(3, 5), [(3, 5)], S.REFRESHING),
        (S.CLOSED, found(0, 3), [], S.CLOSED),
        (S.DELETED, found(0, 3), [], S.DELETED),
    ],
)
def test_what_a_read_means(
    state: TailState, read: Slice, acts: list[Any], after: TailState
) -> None:
    tail = tail_in(state)
    assert spans_of(tail.learned(read, tail.hints)) == acts
    assert tail.state is after


def test_a_read_that_began_before_the_hint_does_not_settle_it() -> None:
    tail = tail_in(S.CURRENT)
    before = tail.hints
    tail.changed(BARE)
    tail.learned(found(3, 3), before)
    assert tail.state is S.STALE


def test_what_was_told_during_a_refresh_is_taken_when_it_is_over() -> None:
    tail = tail_in(S.REFRESHING)
    hints = tail.hints
    tail.changed(told(3, 5))
    tail.changed(told(5, 6))
    assert spans_of(tail.learned(found(3, 5), hints)) == [(3, 5)]
    assert spans_of(tail.refreshed()) == [(5, 6)]
    assert tail.state is S.CURRENT


def test_a_hint_during_a_refresh_makes_another_one_due() -> None:
    tail = tail_in(S.REFRESHING)
    hints = tail.hints
    tail.changed(told(4, 5))
    tail.learned(found(3, 3), hints)
    assert tail.refreshed() == [Act.READ]
    assert tail.state is S.STALE


def test_a_refresh_that_failed_is_done_by_another_reader() -> None:
    tail = tail_in(S.REFRESHING)
    assert tail.refreshed() == [Act.READ]
    assert tail.state is S.STALE


def test_a_tail_that_is_lost_is_found_by_whoever_reads_next() -> None:
    tail = tail_in(S.REFRESHING)
    assert tail.lost() == at(3)
    assert (tail.state, tail.offset, tail.refreshed()) == (S.UNKNOWN, None, [])
    tail.learned(found(5, 9), tail.hints)
    assert (tail.state, tail.offset) == (S.CURRENT, at(9))


@pytest.mark.parametrize("count", [limits.EARLY_CHANGES, limits.EARLY_CHANGES + 1])
def test_more_changes_than_are_kept_are_a_hint(count: int) -> None:
    tail = tail_in(S.UNKNOWN)
    for n in range(count):
        tail.changed(told(3 + n, 4 + n))
    acts = tail.learned(found(0, 3), 0)
    if count == limits.EARLY_CHANGES:
        assert (len(acts), tail.state) == (count, S.CURRENT)
    else:
        assert (acts, tail.state) == ([Act.READ], S.STALE)
