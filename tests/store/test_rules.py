"""What every store decides in the same way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import limits
from tailrace.errors import (
    ContentTypeMismatch,
    ForkRefused,
    InvalidOffset,
    InvalidProducer,
    OffsetGone,
    ProducerFenced,
    ProducerGap,
    SequenceConflict,
    StreamClosed,
    StreamError,
    StreamExists,
    StreamGone,
    StreamNotFound,
    TooLarge,
)
from tailrace.store import (
    START,
    Append,
    Appended,
    Fork,
    Mark,
    NewStream,
    Offset,
    Producer,
    Retention,
)
from tailrace.store.rules import (
    Level,
    State,
    Trim,
    apply_append,
    check_size,
    essence,
    first_of,
    fork_point,
    fork_reach,
    info_of,
    is_expired,
    judge_append,
    locate,
    match_create,
    new_state,
    next_generation,
    offset_at,
    read_until,
    require,
    trim_due,
)

NOW = 1_800_000_000_000


def state(**more: object) -> State:
    given = {"path": "a", "generation": 30, "content_type": "text/plain", "retention": Retention()}
    return State(**{**given, **more})  # type: ignore[arg-type]  # fields of State, by name


# Positions ---------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, NOW), min_size=1, max_size=20))
def test_generations_grow_whatever_the_clock_does(clock: list[int]) -> None:
    given, last = [], 0
    for now in clock:
        last = next_generation(now, last)
        given.append(last)
    assert given == sorted(set(given))


def test_a_generation_is_the_microsecond_of_the_creation() -> None:
    assert next_generation(NOW, 0) == NOW * 1000
    assert next_generation(NOW, NOW * 1000) == NOW * 1000 + 1
    assert next_generation(NOW, NOW * 1000 + 5) == NOW * 1000 + 6


FORKED = state(
    generation=30,
    lineage=(Level("s", 10, 4), Level("f", 20, 4), Level("g", 25, 9)),
    base=9,
    tail=12,
)


@pytest.mark.parametrize(
    ("position", "generation"),
    [(0, 0), (1, 10), (4, 10), (5, 25), (9, 25), (10, 30), (12, 30), (13, 30)],
)
def test_a_position_names_the_stream_that_owns_the_byte_before(
    position: int, generation: int
) -> None:
    assert offset_at(FORKED, position) == Offset(generation, position)


@given(st.lists(st.integers(0, 50), max_size=6), st.integers(0, 10))
def test_the_offsets_of_a_stream_sort_as_its_positions(cuts: list[int], own: int) -> None:
    levels = tuple(Level(f"{i}", 10 + i, cut) for i, cut in enumerate(sorted(cuts)))
    base = max(cuts, default=0)
    stream = state(generation=100, lineage=levels, base=base, tail=base + own)
    offsets = [offset_at(stream, position) for position in range(stream.tail + 1)]
    assert offsets == sorted(set(offsets))
    assert [locate(stream, 0, offset) for offset in offsets] == list(range(stream.tail + 1))


@pytest.mark.parametrize(
    ("low", "lows", "first"),
    [
        (0, (0, 0, 0), 0),
        (0, (3, 0, 0), 3),
        (0, (7, 0, 0), 4),
        (0, (0, 6, 0), 4),
        (0, (4, 4, 8), 8),
        (0, (4, 4, 20), 9),
        (11, (0, 0, 0), 11),
        (11, (7, 0, 20), 11),
    ],
)
def test_a_fork_begins_where_all_that_it_inherits_is_kept(
    low: int, lows: tuple[int, ...], first: int
) -> None:
    assert first_of(replace(FORKED, low=low), lows) == first


def test_a_stream_that_is_no_fork_begins_where_it_is_kept() -> None:
    assert first_of(state(low=5, tail=9), ()) == 5


@pytest.mark.parametrize(
    ("where", "position"),
    [
        (Mark.BEGINNING, 2),
        (Mark.TAIL, 12),
        (Offset(10, 2), 2),
        (Offset(25, 9), 9),
        (Offset(30, 10), 10),
        (Offset(30, 12), 12),
        (Offset(30, 13), 12),  # the tail and one, as the Yjs layer makes it
    ],
)
def test_a_place_has_a_position(where: Offset | Mark, position: int) -> None:
    assert locate(FORKED, 2, where) == position


@pytest.mark.parametrize(
    ("where", "error"),
    [
        (START, OffsetGone),  # before what is kept
        (Offset(10, 1), OffsetGone),
        (Offset(30, 14), InvalidOffset),  # beyond the tail
        (Offset(10, 5), OffsetGone),  # of its source, after the fork
        (Offset(20, 5), OffsetGone),
        (Offset(25, 10), OffsetGone),
        (Offset(29, 11), OffsetGone),  # of a stream that was here before
        (Offset(29, 500), OffsetGone),
        (Offset(0, 3), InvalidOffset),  # never given out
        (Offset(31, 11), InvalidOffset),
        (Offset(9999999999999999, 9999999999999999), InvalidOffset),
    ],
)
def test_another_place_is_refused(where: Offset, error: type[StreamError]) -> None:
    with pytest.raises(error) as refused:
        locate(FORKED, 2, where)
    if isinstance(refused.value, OffsetGone):
        assert (refused.value.offset, refused.value.first) == (str(where), str(Offset(10, 2)))


@given(st.integers(0, 10**12), st.integers(1, 10**7))
def test_a_read_goes_on_to_the_next_whole_multiple(start: int, max_bytes: int) -> None:
    until = read_until(start, max_bytes)
    assert until % max_bytes == 0
    assert 0 < until - start <= max_bytes


# Life --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize(
    ("ttl", "expires_at", "after", "expired"),
    [
        (None, None, 10**12, False),
        (10, None, 9_999, False),
        (10, None, 10_000, True),
        (0, None, 0, True),
        (None, NOW + 5, 4, False),
        (None, NOW + 5, 5, True),
        (None, NOW - 1, 0, True),
    ],
)
def test_time_is_over_when_it_is_used_up(
    ttl: int | None, expires_at: int | None, after: int, expired: bool, watched: bool
) -> None:
    stream = state(ttl=ttl, expires_at=expires_at, touched=NOW)
    in_use = watched and ttl is not None
    assert is_expired(stream, NOW + after, watched=watched) == (expired and not in_use)


def test_a_stream_is_required() -> None:
    stream = state()
    assert require("a", stream) is stream
    with pytest.raises(StreamNotFound) as missing:
        require("a", None)
    assert not isinstance(missing.value, StreamGone)
    with pytest.raises(StreamGone):
        require("a", state(gone=True))


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("text/plain", "text/plain"),
        ("Text/PLAIN ; charset=utf-8", "text/plain"),
        ("text/plain;a=b;c=d", "text/plain"),
        (" text/plain ", "text/plain"),
    ],
)
def test_content_types_are_compared_without_their_parameters(
    content_type: str, expected: str
) -> None:
    assert essence(content_type) == expected


def test_an_append_is_as_long_as_the_limit_and_no_longer() -> None:
    check_size(bytes(limits.MAX_APPEND_BYTES))
    with pytest.raises(TooLarge):
        check_size(bytes(limits.MAX_APPEND_BYTES + 1))


# Creation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (NewStream(content_type="text/html"), "content type"),
        (NewStream(), "content type"),
        (NewStream(content_type="text/plain"), "TTL"),
        (NewStream(content_type="text/plain", ttl=6), "TTL"),
        (NewStream(content_type="text/plain", ttl=5, expires_at=9), "expires"),
        (NewStream(content_type="text/plain", ttl=5, closed=True), "not closed"),
        (NewStream(content_type="text/plain", ttl=5, retention=Retention(max_age=1)), "retention"),
        (NewStream(content_type="text/plain", ttl=5, fork=Fork("s")), "forked"),
    ],
)
def test_a_stream_that_differs_says_in_what(asked: NewStream, reason: str) -> None:
    with pytest.raises(StreamExists, match=reason):
        match_create(state(ttl=5), asked)


def test_a_stream_that_is_as_it_was_asked_for_is_found() -> None:
    match_create(state(ttl=5), NewStream(content_type="TEXT/plain; a=b", ttl=5, data=b"ignored"))


def test_a_stream_that_was_deleted_is_never_found() -> None:
    with pytest.raises(StreamExists, match="deleted"):
        match_create(state(gone=True), NewStream(content_type="text/plain"))


AT_4 = Offset(10, 4)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (NewStream(fork=Fork("s")), True),
        (NewStream(fork=Fork("s", AT_4)), True),
        (NewStream(fork=Fork("s"), ttl=5), True),
        (NewStream(fork=Fork("s"), ttl=6), False),
        (NewStream(fork=Fork("s", AT_4, 1)), False),
        (NewStream(fork=Fork("s", Offset(10, 3))), False),
        (NewStream(fork=Fork("t", AT_4)), False),
        (NewStream(content_type="text/plain", ttl=5), False),
    ],
)
def test_a_fork_is_found_by_where_it_branches_off(asked: NewStream, found: bool) -> None:
    existing, source = state(ttl=5, fork=Fork("s", AT_4)), state(path="s", ttl=5)
    if found:
        match_create(existing, asked, source)
    else:
        with pytest.raises(StreamExists):
            match_create(existing, asked, source)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (state(path="s"), "TTL"),
        (state(path="s", ttl=6), "TTL"),
        (state(path="s", expires_at=9), "TTL"),
    ],
)
def test_a_fork_without_a_lifetime_is_asked_for_with_that_of_its_source(
    source: State, reason: str
) -> None:
    with pytest.raises(StreamExists, match=reason):
        match_create(state(ttl=5, fork=Fork("s", AT_4)), NewStream(fork=Fork("s")), source)


SOURCE = state(path="s", tail=12, low=2)


@pytest.mark.parametrize(
    ("offset", "point"), [(None, 12), (Offset(30, 2), 2), (Offset(30, 12), 12)]
)
def test_a_fork_begins_where_it_is_asked_to(offset: Offset | None, point: int) -> None:
    fork = Fork("s", offset)
    assert fork_point(fork, SOURCE, 2, NewStream(fork=fork)) == point


DEEP = tuple(Level(f"{i}", i + 1, 0) for i in range(limits.MAX_FORK_DEPTH - 1))


@pytest.mark.parametrize(
    ("source", "fork", "content_type", "status"),
    [
        (None, Fork("s"), None, 404),
        (replace(SOURCE, gone=True), Fork("s"), None, 409),
        (SOURCE, Fork("s"), "text/html", 409),
        (SOURCE, Fork("s", Offset(30, 13)), None, 400),
        (SOURCE, Fork("s", Offset(29, 3)), None, 400),
        (SOURCE, Fork("s", Offset(30, 1)), None, 400),
        (replace(SOURCE, lineage=(*DEEP, Level("x", 29, 0))), Fork("s"), None, 400),
    ],
)
def test_a_fork_that_cannot_be_is_refused(
    source: State | None, fork: Fork, content_type: str | None, status: int
) -> None:
    with pytest.raises(ForkRefused) as refused:
        fork_point(fork, source, 2, NewStream(content_type=content_type, fork=fork))
    assert (refused.value.source, refused.value.status) == ("s", status)


def test_a_fork_may_be_as_deep_as_the_limit() -> None:
    fork = Fork("s")
    assert fork_point(fork, replace(SOURCE, lineage=DEEP), 2, NewStream(fork=fork)) == 12


@pytest.mark.parametrize(
    ("content_type", "following", "sub_offset", "reach"),
    [
        ("text/plain", b"", 0, 0),
        ("text/plain", b"abc", 0, 0),
        ("text/plain", b"abc", 2, 2),
        ("text/plain", b"abc", 3, 3),
        ("text/plain", b"abc", 4, None),
        ("text/plain", b"", 1, None),
        ("application/json", b'1,"a,b",[2,3],', 0, 0),
        ("application/json", b'1,"a,b",[2,3],', 2, 8),
        ("Application/JSON; charset=utf-8", b'1,"a,b",[2,3],', 3, 14),
        ("application/json", b'1,"a,b",[2,3],', 4, None),
        ("application/json", b"", 1, None),
        ("application/json", b',b",[2,3],', 1, None),  # an offset within a message
    ],
)
def test_a_sub_offset_counts_messages_or_bytes(
    content_type: str, following: bytes, sub_offset: int, reach: int | None
) -> None:
    fork = Fork("s", None, sub_offset)
    if reach is not None:
        assert fork_reach(fork, content_type, following) == reach
        return
    with pytest.raises(ForkRefused) as refused:
        fork_reach(fork, content_type, following)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("point", "lineage"),
    [
        (12, (*FORKED.lineage, Level("a", 30, 12))),
        (10, (*FORKED.lineage, Level("a", 30, 10))),
        (6, (Level("s", 10, 4), Level("f", 20, 4), Level("g", 25, 6))),
        (2, (Level("s", 10, 2),)),
    ],
)
def test_a_fork_inherits_from_those_that_reach_to_it(
    point: int, lineage: tuple[Level, ...]
) -> None:
    forked = new_state("b", NewStream(fork=Fork("a")), 40, NOW, FORKED, point)
    assert forked.lineage == lineage
    assert (forked.base, forked.tail, forked.low) == (point, point, 0)
    assert forked.fork == Fork("a", offset_at(FORKED, point))
    for position in range(point + 1):
        assert offset_at(forked, position) == offset_at(FORKED, position)
    assert offset_at(forked, point + 1) == Offset(40, point + 1)


def test_a_fork_is_known_by_the_offset_that_was_asked_for() -> None:
    fork = Fork("a", offset_at(FORKED, 10), 2)
    forked = new_state("b", NewStream(fork=fork), 40, NOW, FORKED, 12)
    assert (forked.fork, forked.base) == (fork, 12)
    match_create(forked, NewStream(fork=fork))
    for other in (Fork("a", offset_at(FORKED, 12)), Fork("a", offset_at(FORKED, 10), 1)):
        with pytest.raises(StreamExists):
            match_create(forked, NewStream(fork=other))


def test_what_is_known_of_a_stream_is_what_it_is() -> None:
    info = info_of(replace(FORKED, fork=Fork("g"), closed=True, ttl=5, created_at=NOW), 3)
    assert (info.path, info.content_type, info.closed, info.ttl) == ("a", "text/plain", True, 5)
    assert (info.first, info.tail) == (Offset(10, 3), Offset(30, 12))
    assert (info.forked_from, info.created_at, info.expires_at) == ("g", NOW, None)


# Appends -----------------------------------------------------------------------------------------

NEW, AGAIN = "new", "again"


@pytest.mark.parametrize(
    ("known", "epoch", "seq", "verdict"),
    [
        (None, 0, 0, NEW),
        (None, 7, 0, NEW),
        (None, 0, 1, ProducerGap),
        (None, 7, 3, ProducerGap),
        ((2, 5), 2, 6, NEW),
        ((2, 5), 2, 5, AGAIN),
        ((2, 5), 2, 0, AGAIN),
        ((2, 5), 2, 7, ProducerGap),
        ((2, 5), 3, 0, NEW),
        ((2, 5), 9, 0, NEW),
        ((2, 5), 3, 1, InvalidProducer),
        ((2, 5), 3, 6, InvalidProducer),
        ((2, 5), 1, 0, ProducerFenced),
        ((2, 5), 1, 6, ProducerFenced),
        ((0, limits.MAX_SEQUENCE - 1), 0, limits.MAX_SEQUENCE, NEW),
        ((0, limits.MAX_SEQUENCE), 0, limits.MAX_SEQUENCE, AGAIN),
        ((limits.MAX_SEQUENCE - 1, 4), limits.MAX_SEQUENCE, 0, NEW),
    ],
)
def test_a_producer_is_judged_as_the_protocol_says(
    known: tuple[int, int] | None, epoch: int, seq: int, verdict: str | type[StreamError]
) -> None:
    append = Append(data=b"x", producer=Producer("p", epoch, seq))
    if isinstance(verdict, str):
        done = judge_append(state(tail=3), known, append)
        assert (done is None) == (verdict == NEW)
        if done is not None:
            assert known is not None
            assert done == Appended(Offset(30, 3), False, True, Producer("p", *known))
    else:
        with pytest.raises(verdict):
            judge_append(state(tail=3), known, append)


CLOSED = state(tail=3, closed=True, closer=Producer("p", 2, 5))


@pytest.mark.parametrize(
    ("append", "duplicate"),
    [
        (Append(close=True), True),
        (Append(data=b"x", close=True, producer=Producer("p", 2, 5)), True),
        (Append(close=True, producer=Producer("p", 2, 5)), True),
        (Append(data=b"x"), False),
        (Append(data=b"x", close=True), False),
        (Append(close=True, producer=Producer("q", 2, 5)), False),
        (Append(data=b"x", producer=Producer("p", 2, 4)), False),
        (Append(data=b"x", producer=Producer("p", 1, 5)), False),
        (Append(data=bytes(limits.MAX_APPEND_BYTES + 1)), False),
    ],
)
def test_a_closed_stream_knows_who_closed_it(append: Append, duplicate: bool) -> None:
    if duplicate:
        done = judge_append(CLOSED, (2, 5), append)
        assert done == Appended(Offset(30, 3), True, True, append.producer)
        return
    with pytest.raises(StreamClosed) as refused:
        judge_append(CLOSED, (2, 5), append)
    assert refused.value.tail == str(Offset(30, 3))


WRONG: dict[str, Any] = {
    "type": {"content_type": "text/html"},
    "size": {"data": bytes(limits.MAX_APPEND_BYTES + 1)},
    "gap": {"producer": Producer("p", 0, 9)},
    "seq": {"seq": "1"},
}


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (["type", "size", "gap", "seq"], ContentTypeMismatch),
        (["size", "gap", "seq"], TooLarge),
        (["gap", "seq"], ProducerGap),
        (["seq"], SequenceConflict),
    ],
)
def test_of_several_faults_the_first_is_told(wrong: list[str], error: type[StreamError]) -> None:
    append = Append(data=b"x", content_type="text/plain", seq="9")
    for name in wrong:
        append = replace(append, **WRONG[name])
    with pytest.raises(error):
        judge_append(state(seq="5"), None, append)


@given(st.text(min_size=1, max_size=4), st.text(min_size=1, max_size=4))
def test_a_sequence_must_be_greater_byte_by_byte(last: str, given: str) -> None:
    append = Append(data=b"x", seq=given)
    if given.encode() > last.encode():
        assert judge_append(state(seq=last), None, append) is None
    else:
        with pytest.raises(SequenceConflict):
            judge_append(state(seq=last), None, append)


def test_an_append_moves_the_tail_and_remembers() -> None:
    stream = state(tail=3, records=1, seq="1")
    done = apply_append(stream, Append(data=b"four", seq="2"), NOW)
    assert done == Appended(Offset(30, 7))
    assert (stream.tail, stream.records, stream.seq, stream.touched) == (7, 2, "2", NOW)
    producer = Producer("p", 0, 0)
    done = apply_append(stream, Append(close=True, producer=producer), NOW + 1)
    assert done == Appended(Offset(30, 7), True, False, producer)
    assert (stream.tail, stream.records, stream.seq) == (7, 2, "2")
    assert (stream.closed, stream.closer, stream.touched) == (True, producer, NOW + 1)


# Retention ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("retention", "more", "due"),
    [
        (Retention(), {"tail": 10**12, "records": 10**9}, False),
        (Retention(max_bytes=100), {"tail": 125}, False),
        (Retention(max_bytes=100), {"tail": 126}, True),
        (Retention(max_bytes=100), {"tail": 200, "low": 75}, False),
        (Retention(max_bytes=100), {"tail": 200, "low": 74}, True),
        (Retention(max_bytes=100), {"tail": 525, "base": 400}, False),
        (Retention(max_bytes=3), {"tail": 3}, False),
        (Retention(max_bytes=3), {"tail": 4}, True),
        (Retention(max_records=4), {"records": 5}, False),
        (Retention(max_records=4), {"records": 6}, True),
        (Retention(max_records=1), {"records": 2}, True),
        (Retention(max_age=100), {"oldest": NOW - 125_000}, False),
        (Retention(max_age=100), {"oldest": NOW - 125_001}, True),
        (Retention(max_age=100), {"oldest": None}, False),
    ],
)
def test_a_stream_is_trimmed_when_it_has_a_quarter_too_much(
    retention: Retention, more: dict[str, int], due: bool
) -> None:
    fields = {name: value for name, value in more.items() if name != "oldest"}
    trim = trim_due(state(retention=retention, **fields), NOW, more.get("oldest", NOW))
    assert (trim is not None) == due


def test_a_trim_leaves_what_was_asked_for() -> None:
    retention = Retention(max_bytes=100, max_records=4, max_age=10)
    trim = trim_due(state(retention=retention, tail=1000, records=9), NOW, NOW)
    assert trim == Trim(before=900, records=4, older_than=NOW - 10_000)


@pytest.mark.parametrize("name", ["max_bytes", "max_records", "max_age"])
def test_a_bound_is_a_whole_number_from_1(name: str) -> None:
    assert getattr(Retention(**{name: 1}), name) == 1
    for wrong in (0, -1, 1.0, True, "1"):
        with pytest.raises(ValueError, match=name):
            Retention(**{name: wrong})  # type: ignore[arg-type]  # that is what is refused
