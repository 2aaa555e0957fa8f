"""The parser of server-sent events, by the WHATWG text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.testing import EventParser, ReceivedEvent


def parsed(stream: bytes) -> list[ReceivedEvent]:
    return EventParser().feed(stream)


def test_the_first_example_of_the_text_is_two_lines_of_data() -> None:
    stream = b"data: YHOO\ndata: +2\ndata: 10\n\n"
    assert parsed(stream) == [ReceivedEvent("YHOO\n+2\n10")]


def test_the_example_with_ids_resets_the_id_and_drops_what_has_no_end() -> None:
    stream = (
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event"
    )
    assert parsed(stream) == [
        ReceivedEvent("first event", id="1"),
        ReceivedEvent("second event", id=""),
    ]


def test_the_example_with_bare_fields_dispatches_empty_and_blank_data() -> None:
    assert parsed(b"data\n\ndata\ndata\n\ndata:") == [ReceivedEvent(""), ReceivedEvent("\n")]


def test_one_space_after_the_colon_is_ignored_and_no_more() -> None:
    assert parsed(b"data:test\n\ndata: test\n\ndata:  test\n\n") == [
        ReceivedEvent("test"),
        ReceivedEvent("test"),
        ReceivedEvent(" test"),
    ]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_lines_end_with_lf_cr_or_crlf(end: bytes) -> None:
    stream = end.join([b"data: a", b"data: b", b"", b"data: c", b"", b""])
    assert parsed(stream) == [ReceivedEvent("a\nb"), ReceivedEvent("c")]


def test_an_event_that_ends_with_cr_is_given_at_once() -> None:
    parser = EventParser()
    assert parser.feed(b"data: a\r\r") == [ReceivedEvent("a")]
    assert parser.feed(b"\ndata: b\r\n\r\n") == [ReceivedEvent("b")]


def test_a_crlf_that_comes_in_two_pieces_ends_one_line() -> None:
    parser = EventParser()
    assert parser.feed(b"data: a\r") == []
    assert parser.feed(b"\ndata: b\r") == []
    assert parser.feed(b"\n\r\n") == [ReceivedEvent("a\nb")]


def test_an_event_without_data_is_dropped_but_its_id_stays() -> None:
    assert parsed(b"event: x\nid: 9\n\ndata: a\n\n") == [ReceivedEvent("a", "message", "9")]


def test_an_id_with_nul_is_ignored() -> None:
    assert parsed(b"id: 1\nid: a\0b\ndata: x\n\n") == [ReceivedEvent("x", id="1")]


@pytest.mark.parametrize("value", ["1.5", "-1", "", "\u0663", "10s"])
def test_a_retry_that_is_not_all_ascii_digits_is_ignored(value: str) -> None:
    parser = EventParser()
    assert parser.feed(f"retry: {value}\ndata: x\n\n".encode()) == [ReceivedEvent("x")]
    assert parser.retry is None


def test_a_retry_is_kept_and_told_with_its_event_only() -> None:
    parser = EventParser()
    assert parser.feed(b"retry: 1500\ndata: x\n\ndata: y\n\n") == [
        ReceivedEvent("x", retry=1500),
        ReceivedEvent("y"),
    ]
    assert parser.retry == 1500


def test_a_leading_byte_order_mark_is_skipped_once() -> None:
    assert parsed(b"\xef\xbb\xbfdata: a\n\n") == [ReceivedEvent("a")]
    assert parsed(b"\n\xef\xbb\xbfdata: a\n\n") == []


def test_fields_are_told_by_case_and_unknown_ones_ignored() -> None:
    assert parsed(b"Data: a\nfoo: b\ndata: c\n\n") == [ReceivedEvent("c")]


def test_other_line_separators_of_unicode_are_data() -> None:
    assert parsed("data: a\u2028b\x0bc\x85d\n\n".encode()) == [ReceivedEvent("a\u2028b\x0bc\x85d")]


def test_comments_are_kept_apart() -> None:
    parser = EventParser()
    assert parser.feed(b":\n: beat\n:x: y\n\n") == []
    assert parser.comments == ["", "beat", "x: y"]


@given(
    st.lists(
        st.sampled_from([b"data: \xc3\xa9", b"id:1", b"\r", b"\n", b"\r\n", b":c", b"event:e"])
    ),
    st.data(),
)
def test_the_pieces_in_which_bytes_come_do_not_matter(
    parts: list[bytes], data: st.DataObject
) -> None:
    stream = b"\xef\xbb\xbf" + b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    parser = EventParser()
    events = []
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        events += parser.feed(stream[start:stop])
    assert events == parsed(stream)
