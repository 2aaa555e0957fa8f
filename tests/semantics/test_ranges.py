"""Range headers: which bytes they ask for, and that no header can do harm."""

from __future__ import annotations

import itertools
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tailrace import limits
from tailrace.semantics import (
    ByteRange,
    ByteRanges,
    coalesce,
    content_range,
    parse_ranges,
    unsatisfied,
)


def asked(header: str | None, size: int = 10_000) -> list[tuple[int, int]] | None:
    ranges = parse_ranges(header, size)
    return None if ranges is None else [(range_.start, range_.stop) for range_ in ranges]


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("bytes=0-0", [(0, 1)]),
        ("bytes=0-499", [(0, 500)]),
        ("bytes=9500-", [(9500, 10_000)]),
        ("bytes=-500", [(9500, 10_000)]),
        ("bytes=0-", [(0, 10_000)]),
        ("bytes=9999-9999", [(9999, 10_000)]),
        ("bytes=0-99999", [(0, 10_000)]),
        ("bytes=-99999", [(0, 10_000)]),
        ("BYTES=1-2", [(1, 3)]),
        (" bytes=1-2\t", [(1, 3)]),
        ("bytes=0001-0002", [(1, 3)]),
        ("bytes=1-" + "9" * 4000, [(1, 10_000)]),
        ("bytes=-" + "9" * 4000, [(0, 10_000)]),
    ],
)
def test_a_single_range_is_the_bytes_that_it_names(
    header: str, wanted: list[tuple[int, int]]
) -> None:
    assert asked(header) == wanted


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("bytes=0-9,1000-1009", [(0, 10), (1000, 1010)]),
        ("bytes=1000-1009,0-9", [(1000, 1010), (0, 10)]),
        ("bytes= 0-9 ,\t1000-1009 ", [(0, 10), (1000, 1010)]),
        ("bytes=,0-9,,1000-1009,", [(0, 10), (1000, 1010)]),
        ("bytes=0-9,-10", [(0, 10), (9990, 10_000)]),
        ("bytes=0-9,20000-", [(0, 10)]),
        ("bytes=0-9,-0", [(0, 10)]),
        ("bytes=abc-def,0-9,7", [(0, 10)]),
    ],
)
def test_several_ranges_come_in_the_order_asked_for(
    header: str, wanted: list[tuple[int, int]]
) -> None:
    assert asked(header) == wanted


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("bytes=0-99,50-199", [(0, 200)]),
        ("bytes=0-99,100-199", [(0, 200)]),
        ("bytes=0-99,0-99,0-99", [(0, 100)]),
        ("bytes=0-,0-,0-,0-", [(0, 10_000)]),
        ("bytes=100-199,0-9999", [(0, 10_000)]),
        ("bytes=0-99,180-199", [(0, 200)]),
        ("bytes=0-99,181-199", [(0, 100), (181, 200)]),
        ("bytes=5000-5099,0-99,5050-5199", [(5000, 5200), (0, 100)]),
        ("bytes=" + ",".join(f"{at}-{at}" for at in range(0, 200, 2)), [(0, 199)]),
    ],
)
def test_ranges_that_overlap_or_nearly_touch_are_one(
    header: str, wanted: list[tuple[int, int]]
) -> None:
    assert asked(header) == wanted


@pytest.mark.parametrize(
    "header", ["bytes=10000-", "bytes=10000-10001", "bytes=-0", "bytes=99999-,-0"]
)
def test_ranges_of_which_no_byte_exists_cannot_be_satisfied(header: str) -> None:
    assert asked(header) == []


def test_an_empty_file_has_no_range_that_could_be_named() -> None:
    assert asked("bytes=0-", 0) == []
    assert asked("bytes=0-0", 0) == []
    assert asked("bytes=-5", 0) is None  # satisfiable, but there is no way to say "no bytes"
    assert asked("bytes=-0", 0) == []


@pytest.mark.parametrize(
    "header",
    [
        *(None, "", "bytes", "bytes=", "bytes=,", "bytes= , ,", "bytes: 0-9", "0-9", "=0-9"),
        *("items=0-9", "bytes=a-b", "bytes=-", "bytes=5", "bytes=0x1-2", "bytes=1-2-3"),
        *("bytes=100-0", "bytes=5-4", "bytes=0-9,100-0", "bytes=+1-2", "bytes=1.0-2", "bytes=--5"),
        *("bytes=\u0661-\u0662", "bytes=1-\uff12", "bytes=0-9;bytes=5-9", "bytes 0-9"),
        "bytes = 0-9",
    ],
)
def test_a_range_that_is_not_valid_or_not_known_is_ignored(header: str | None) -> None:
    assert asked(header) is None


def test_more_ranges_than_the_limit_are_ignored() -> None:
    most = ",".join(f"{at * 100}-{at * 100}" for at in range(limits.MAX_RANGES))
    assert len(asked(f"bytes={most}", 10**6) or ()) == limits.MAX_RANGES
    assert asked(f"bytes={most},1-1", 10**6) is None


def test_a_header_longer_than_the_limit_is_ignored() -> None:
    header = "bytes=0-9" + " " * (limits.MAX_RANGE_HEADER_BYTES - 9)
    assert asked(header) == [(0, 10)]
    assert asked(header + " ") is None


SPECS = st.one_of(
    st.builds("{}-{}".format, st.integers(0, 300), st.integers(0, 300)),
    st.builds("{}-".format, st.integers(0, 300)),
    st.builds("-{}".format, st.integers(0, 300)),
    st.text(string.digits + "-, =x", max_size=6),
)
HEADERS = st.one_of(
    st.text(),
    st.text(string.digits + "-,= \tbytes").map("bytes={}".format),
    st.lists(SPECS, max_size=12).map(lambda specs: "bytes=" + ",".join(specs)),
)


@given(HEADERS, st.integers(0, 250))
@example("bytes=" + "9" * 5000 + "-", 5)
def test_no_header_raises_and_what_is_accepted_lies_within_the_file(header: str, size: int) -> None:
    for range_ in parse_ranges(header, size) or ():
        assert 0 <= range_.start < range_.stop <= size


@given(st.lists(SPECS, min_size=1, max_size=12), st.integers(1, 250))
def test_accepted_ranges_give_every_byte_asked_for_and_none_twice(
    specs: list[str], size: int
) -> None:
    """Against a plain reading of the same specs, each as a slice of its own."""
    ranges = parse_ranges("bytes=" + ",".join(specs), size)
    if ranges is None:
        return
    given_bytes = [at for range_ in ranges for at in range(range_.start, range_.stop)]
    assert len(given_bytes) == len(set(given_bytes))
    for spec in ",".join(specs).split(","):
        for at in naive(spec.strip(" \t"), size):
            assert at in given_bytes


def naive(spec: str, size: int) -> range:
    first, dash, last = spec.partition("-")
    if not dash or not (first + last).isdecimal() or "-" in last:
        return range(0)
    if not first:
        return range(max(0, size - int(last)), size)
    return range(int(first), min(int(last) + 1, size) if last else size)


RANGES = st.builds(
    lambda start, size: ByteRange(start, start + size), st.integers(0, 500), st.integers(1, 60)
)


@given(st.lists(RANGES, max_size=20), st.integers(0, 30))
def test_coalesced_ranges_are_apart_and_cover_what_they_were_made_of(
    ranges: list[ByteRange], gap: int
) -> None:
    merged = coalesce(ranges, gap)
    ordered = sorted(merged)
    for before, after in itertools.pairwise(ordered):
        assert after.start - before.stop > gap
    for range_ in ranges:
        assert any(one.start <= range_.start and range_.stop <= one.stop for one in merged)
    assert coalesce(merged, gap) == merged


@given(st.lists(RANGES, min_size=2, max_size=20))
def test_the_length_of_several_parts_is_known_before_they_are_made(ranges: list[ByteRange]) -> None:
    data = bytes(at % 251 for at in range(600))
    parts = ByteRanges(tuple(ranges), len(data), "text/plain", "BOUNDARY")
    body = b"".join(
        parts.head(place) + data[range_.start : range_.stop]
        for place, range_ in enumerate(parts.ranges)
    )
    assert len(body + parts.closing) == parts.content_length


def test_several_parts_are_written_as_multipart_byteranges() -> None:
    parts = ByteRanges((ByteRange(0, 2), ByteRange(8, 10)), 10, "text/plain", "BOUND")
    assert parts.media_type == "multipart/byteranges; boundary=BOUND"
    assert parts.head(0) + b"01" + parts.head(1) + b"89" + parts.closing == (
        b"--BOUND\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01"
        b"\r\n--BOUND\r\nContent-Type: text/plain\r\nContent-Range: bytes 8-9/10\r\n\r\n89"
        b"\r\n--BOUND--"
    )


def test_content_range_is_inclusive_on_the_wire() -> None:
    assert content_range(ByteRange(0, 500), 1234) == "bytes 0-499/1234"
    assert unsatisfied(1234) == "bytes */1234"


def test_a_hundred_ranges_make_no_answer_that_is_much_larger_than_the_file() -> None:
    """Range amplification: every byte at most once, and a head only where it is worth it."""
    size = 20_000
    header = "bytes=" + ",".join(f"{at * 170}-{at * 170}" for at in range(limits.MAX_RANGES))
    ranges = parse_ranges(header, size)
    assert ranges is not None
    parts = ByteRanges(ranges, size, "application/octet-stream", "b" * 26)
    assert parts.content_length < size
