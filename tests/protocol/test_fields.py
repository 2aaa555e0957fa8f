from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import limits
from tailrace.errors import InvalidOffset, InvalidRequest
from tailrace.protocol.fields import (
    content_type_of,
    cursor_of,
    fields_of,
    instant_of,
    is_true,
    number_of,
    offset_of,
    producer_of,
    text_of,
    where_of,
)
from tailrace.store import START, Mark, Offset, Producer

# Names -------------------------------------------------------------------------------------------


def test_fields_are_found_by_name() -> None:
    assert fields_of([(b"a", b"1"), (b"b", b"2")]) == {b"a": b"1", b"b": b"2"}
    assert fields_of(iter([(b"a", b"1")])) == {b"a": b"1"}


def test_values_of_one_name_are_a_list() -> None:
    assert fields_of([(b"if-none-match", b'"a"'), (b"if-none-match", b'"b"')]) == {
        b"if-none-match": b'"a", "b"'
    }


@pytest.mark.parametrize(
    "name",
    [b"stream-seq", b"producer-seq", b"content-type", b"content-length", b"last-event-id", b"host"],
)
def test_what_can_stand_once_may_not_stand_twice(name: bytes) -> None:
    with pytest.raises(InvalidRequest, match="1, 1"):
        fields_of([(name, b"1"), (b"x", b"y"), (name, b"1")])


# Values ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [b"true", b"TRUE", b"True", b" true "])
def test_true_is_true_in_any_case(value: bytes) -> None:
    assert is_true(value)


@pytest.mark.parametrize("value", [None, b"", b"false", b"yes", b"1", b"true,true", b"truely"])
def test_all_else_is_as_if_it_were_not_there(value: bytes | None) -> None:
    assert not is_true(value)


@pytest.mark.parametrize("value", [b"0", b"1", b"3600", b"9007199254740991"])
def test_numbers_that_can_be(value: bytes) -> None:
    assert number_of("n", value) == int(value)


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b"-1", b"+1", b"01", b"00", b"1.0", b"1e3", b"1abc", b" 1", b"1 ", b"1\n", b"0x1"),
        *(b"1_0", "\u0661".encode(), b"\xb9", b"9007199254740992", b"9" * 17, b"9" * 5000),
    ],
)
def test_numbers_that_cannot_be(value: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"^n "):
        number_of("n", value)


def test_a_number_has_a_least_and_a_most() -> None:
    assert number_of("n", b"1", 1, 5) == 1
    assert number_of("n", b"5", 1, 5) == 5
    for value in (b"0", b"6"):
        with pytest.raises(InvalidRequest, match="from 1 to 5"):
            number_of("n", value, 1, 5)


@given(st.binary(max_size=20))
def test_any_number_is_taken_or_refused(value: bytes) -> None:
    with suppress(InvalidRequest):
        assert str(number_of("n", value)).encode() == value


@given(st.binary(min_size=1, max_size=10), st.binary(min_size=1, max_size=10))
def test_opaque_values_sort_as_their_bytes(one: bytes, other: bytes) -> None:
    assert (text_of("t", one, 10) < text_of("t", other, 10)) == (one < other)


def test_an_opaque_value_has_at_least_a_byte_and_no_more_than_allowed() -> None:
    assert text_of("t", b"x" * 10, 10) == "x" * 10
    for value in (b"", b"x" * 11):
        with pytest.raises(InvalidRequest, match="1 to 10 bytes"):
            text_of("t", value, 10)


# Producers ---------------------------------------------------------------------------------------

ALL_THREE = {b"producer-id": b"p", b"producer-epoch": b"1", b"producer-seq": b"2"}


def test_a_producer_is_three_fields_or_none() -> None:
    assert producer_of({}) is None
    assert producer_of(ALL_THREE) == Producer("p", 1, 2)


@pytest.mark.parametrize("left_out", ALL_THREE)
def test_a_producer_with_one_field_less_is_refused(left_out: bytes) -> None:
    with pytest.raises(InvalidRequest, match="is missing"):
        producer_of({name: value for name, value in ALL_THREE.items() if name != left_out})


@pytest.mark.parametrize("only", ALL_THREE)
def test_a_producer_with_one_field_only_is_refused(only: bytes) -> None:
    with pytest.raises(InvalidRequest, match="is missing"):
        producer_of({only: ALL_THREE[only]})


def test_a_producers_id_may_have_so_many_bytes_and_not_one_more() -> None:
    most = limits.MAX_PRODUCER_ID_BYTES
    assert producer_of({**ALL_THREE, b"producer-id": b"x" * most}) == Producer("x" * most, 1, 2)
    for bad in (b"", b"x" * (most + 1)):
        with pytest.raises(InvalidRequest, match="Producer-Id"):
            producer_of({**ALL_THREE, b"producer-id": bad})


@pytest.mark.parametrize("name", [b"producer-epoch", b"producer-seq"])
def test_epoch_and_sequence_are_what_javascript_counts(name: bytes) -> None:
    most = limits.MAX_SEQUENCE
    assert producer_of({**ALL_THREE, name: b"%d" % most}) is not None
    for bad in (b"%d" % (most + 1), b"1abc", b"-1", b"1e3"):
        with pytest.raises(InvalidRequest):
            producer_of({**ALL_THREE, name: bad})


# Content types -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        *(b"text/plain", b"TEXT/PLAIN", b"application/json; charset=utf-8", b"image/svg+xml"),
        *(b'multipart/mixed; boundary="a b"', b"text/plain;charset=utf-8"),
    ],
)
def test_content_types_that_can_be(value: bytes) -> None:
    assert content_type_of(value) == value.decode()


def test_blanks_around_a_content_type_do_not_count() -> None:
    assert content_type_of(b" text/plain\t") == "text/plain"


@pytest.mark.parametrize(
    "value",
    [
        *(
            b"text",
            b"text/",
            b"/plain",
            b"a/b/c",
            b"text/plain\r\nx: y",
            b"text/plain; \0",
            b"a b/c",
        ),
        *(b"text/pl\xe4in", b"*", b"text/plain, text/html"),
    ],
)
def test_content_types_that_cannot_be(value: bytes) -> None:
    with pytest.raises(InvalidRequest, match="Content-Type"):
        content_type_of(value)


def test_a_content_type_may_have_so_many_bytes_and_not_one_more() -> None:
    longest = b"text/" + b"x" * (limits.MAX_CONTENT_TYPE_BYTES - 5)
    assert content_type_of(longest) == longest.decode()
    with pytest.raises(InvalidRequest):
        content_type_of(longest + b"x")


# Times -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"1970-01-01T00:00:00Z", 0.0),
        (b"2026-11-22T14:00:00Z", 1795356000.0),
        (b"2026-11-22t14:00:00z", 1795356000.0),
        (b"2026-11-22T14:00:00.5Z", 1795356000.5),
        (b"2026-11-22T14:00:00.123456789Z", 1795356000.123),
        (b"2026-11-22T15:30:00+01:30", 1795356000.0),
        (b"2026-11-22T12:00:00-02:00", 1795356000.0),
        (b"2016-12-31T23:59:60Z", 1483228800.0),
        (b"9999-12-31T23:59:59.999Z", 253402300799.999),
    ],
)
def test_times_that_can_be(value: bytes, seconds: float) -> None:
    assert instant_of("t", value) == round(seconds * 1000)


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b"not-a-timestamp", b"2026-11-22", b"2026-11-22T14:00:00", b"2026-11-22 14:00:00Z"),
        *(b"2026-02-31T00:00:00Z", b"2026-13-01T00:00:00Z", b"2026-11-22T24:00:00Z"),
        *(b"2026-11-22T14:00:61Z", b"2026-11-22T14:00:00+24:00", b"2026-11-22T14:00:00.Z"),
        *(
            b"2026-11-22T14:00:00Z\n",
            b" 2026-11-22T14:00:00Z",
            b"1795356000",
            b"0000-01-01T00:00:00Z",
        ),
        *(b"1969-12-31T23:59:59Z", b"0001-01-01T00:00:00+23:59", b"9999-12-31T23:59:59-00:01"),
    ],
)
def test_times_that_cannot_be(value: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"^t "):
        instant_of("t", value)


@given(
    st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30)),
    st.integers(-23 * 60, 23 * 60),
)
def test_any_time_is_read_as_python_reads_it(moment: datetime, minutes: int) -> None:
    zoned = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    since = zoned - datetime(1970, 1, 1, tzinfo=UTC)
    assert instant_of("t", zoned.isoformat().encode()) == since // timedelta(milliseconds=1)


# Offsets -----------------------------------------------------------------------------------------


def test_places_in_a_stream() -> None:
    assert where_of("-1") is Mark.BEGINNING
    assert where_of("now") is Mark.TAIL
    assert where_of(str(START)) == START
    assert offset_of(b"0000000000000001_0000000000000002") == Offset(1, 2)


@pytest.mark.parametrize(
    "token", ["", "0", "NOW", "-2", " now", "now\n", "0,1", "0000000000000000_0000000000000000\n"]
)
def test_what_is_no_place(token: str) -> None:
    with pytest.raises(InvalidOffset):
        where_of(token)


@pytest.mark.parametrize("value", [b"-1", b"now", b"\xff"])
def test_a_header_takes_an_offset_only(value: bytes) -> None:
    with pytest.raises(InvalidOffset):
        offset_of(value)


@given(st.integers(0, 10**15 - 1))
def test_a_cursor_is_read_back(cursor: int) -> None:
    assert cursor_of(str(cursor)) == cursor


@pytest.mark.parametrize(
    "text", ["", "abc", "-1", "+1", "1.5", " 1", "1\n", "\u0661", "9" * 16, "9" * 5000]
)
def test_what_is_no_cursor_of_ours_is_none(text: str) -> None:
    assert cursor_of(text) is None
