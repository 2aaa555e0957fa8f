"""The SSE format, as a reader by the WHATWG's text reads it; and cursors. Both without a server."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import limits
from tailrace.errors import StoreUnavailable
from tailrace.live import End, Gap, Reason
from tailrace.protocol.live import EPOCH, SseFormat, interval_of, is_text, next_cursor
from tailrace.store import START, Chunk, Offset, Retention, Slice, StreamInfo, wire_of
from tests.framing.whatwg import EventStreamReader, Message

NOW = EPOCH + 20 * 1000.0


def part(
    *chunks: bytes,
    content_type: str = "text/plain",
    start: int = 0,
    closed: bool = False,
    more: int = 0,
    first: int = 0,
) -> Slice:
    made = []
    at = start
    for data in chunks:
        at += len(data)
        made.append(Chunk(data, Offset(7, at)))
    info = StreamInfo(
        path="s",
        content_type=content_type,
        first=Offset(7, first) if first else START,
        tail=Offset(7, at + more),
        closed=closed,
        ttl=None,
        expires_at=None,
        retention=Retention(),
        forked_from=None,
        created_at=1,
    )
    return Slice(info, Offset(7, start) if start else START, tuple(made))


def messages(written: bytes) -> list[Message]:
    reader = EventStreamReader()
    reader.feed(written)
    return reader.messages


def control(written: bytes) -> dict[str, Any]:
    last = messages(written)[-1]
    assert last.type == "control"
    parsed: dict[str, Any] = json.loads(last.data)
    assert last.last_event_id == parsed["streamNextOffset"]
    return parsed


FORMAT = SseFormat()


def test_it_begins_with_when_to_come_back() -> None:
    assert SseFormat().begin(part(), NOW) == b"retry:%d\n\n" % (limits.SSE_RETRY * 1000)


def test_the_bytes_are_those_that_clients_patterns_are_written_for() -> None:
    assert FORMAT.frame(part(b"line1\nline2"), NOW) == (
        b"event: data\n"
        b"data:line1\n"
        b"data:line2\n"
        b"id:0000000000000007_0000000000000011\n"
        b"\n"
        b"event: control\n"
        b'data:{"streamNextOffset":"0000000000000007_0000000000000011","streamCursor":"1000",'
        b'"upToDate":true}\n'
        b"id:0000000000000007_0000000000000011\n"
        b"\n"
    )


def test_at_the_tail_there_is_only_the_control_event() -> None:
    written = FORMAT.frame(part(start=5), NOW)
    assert [message.type for message in messages(written)] == ["control"]
    assert control(written) == {
        "streamNextOffset": str(Offset(7, 5)),
        "streamCursor": "1000",
        "upToDate": True,
    }


def test_before_the_tail_a_reader_is_not_told_that_it_is_there() -> None:
    assert "upToDate" not in control(FORMAT.frame(part(b"abc", more=5), NOW))


def test_the_end_of_a_closed_stream_has_no_cursor() -> None:
    written = FORMAT.frame(part(b"abc", closed=True), NOW)
    assert [message.type for message in messages(written)] == ["data", "control"]
    assert control(written) == {
        "streamNextOffset": str(Offset(7, 3)),
        "streamClosed": True,
        "upToDate": True,
    }


def test_a_closed_stream_is_not_over_before_its_end() -> None:
    got = control(FORMAT.frame(part(b"abc", closed=True, more=5), NOW))
    assert "streamClosed" not in got
    assert got["streamCursor"] == "1000"


def test_a_reader_who_brought_the_newest_cursor_gets_none_below_what_follows_it() -> None:
    assert control(SseFormat(1005).frame(part(b"abc"), NOW))["streamCursor"] == "1005"
    assert control(SseFormat(999).frame(part(b"abc"), NOW))["streamCursor"] == "1000"


def test_readers_without_such_a_cursor_share_one_format() -> None:
    assert SseFormat() == SseFormat(None)
    assert hash(SseFormat()) == hash(SseFormat(None))
    assert SseFormat(5) != SseFormat()


def test_appends_that_come_together_are_one_event() -> None:
    written = FORMAT.frame(part(b"ab", b"cd"), NOW)
    assert [message.data for message in messages(written)][:1] == ["abcd"]
    assert len(messages(written)) == 2


# Data --------------------------------------------------------------------------------------------


@given(st.lists(st.text(min_size=1), min_size=1, max_size=4))
def test_text_arrives_with_its_line_ends_as_lf(texts: list[str]) -> None:
    text = "".join(texts)
    written = FORMAT.frame(part(*(each.encode() for each in texts)), NOW)
    first, last = messages(written)
    assert (first.type, last.type) == ("data", "control")
    assert first.data == text.replace("\r\n", "\n").replace("\r", "\n")


@given(st.binary(min_size=1))
def test_bytes_in_text_that_are_no_utf8_are_replaced(data: bytes) -> None:
    first, last = messages(FORMAT.frame(part(data), NOW))
    assert (first.type, last.type) == ("data", "control")
    text = data.decode(errors="replace")
    assert first.data == text.replace("\r\n", "\n").replace("\r", "\n")


@pytest.mark.parametrize(
    "attack",
    [
        b'safe\r\n\r\nevent: control\r\ndata: {"injected":true}\r\n\r\nmore',
        b'safe\n\nevent: control\ndata: {"injected":true}\n\nmore',
        b'safe\r\revent: control\rdata: {"injected":true}\r\rmore',
        b"\nid: 5\n\n: comment\nretry: 1\n\n",
    ],
)
def test_nothing_in_the_data_is_taken_for_an_event(attack: bytes) -> None:
    written = FORMAT.frame(part(attack), NOW)
    assert [message.type for message in messages(written)] == ["data", "control"]
    assert "injected" not in control(written)


@given(st.lists(st.binary(min_size=1), min_size=1, max_size=4))
def test_binary_data_is_base64(chunks: list[bytes]) -> None:
    written = FORMAT.frame(part(*chunks, content_type="application/octet-stream"), NOW)
    first, last = messages(written)
    assert b64decode(first.data, validate=True) == b"".join(chunks)
    assert last.type == "control"


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=8,
)


@given(st.lists(values, min_size=1, max_size=5), st.sampled_from([None, 2]))
def test_json_is_an_array_of_the_messages(sent: list[Any], indent: int | None) -> None:
    wire = wire_of(json.dumps(sent, ensure_ascii=False, indent=indent).encode())
    written = FORMAT.frame(part(wire, content_type="application/json; charset=utf-8"), NOW)
    first, last = messages(written)
    assert json.loads(first.data) == sent
    assert last.type == "control"


# Headers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "TEXT/HTML", "text/csv; header=present", "application/json", "application/JSON"],
)
def test_text_and_json_are_written_as_they_are(content_type: str) -> None:
    assert is_text(content_type)
    got = dict(FORMAT.headers(part(content_type=content_type).info))
    assert got["content-type"] == "text/event-stream"
    assert got["cache-control"] == "no-cache, no-store"
    assert got["x-accel-buffering"] == "no"
    assert "stream-sse-data-encoding" not in got
    assert "content-length" not in got


@pytest.mark.parametrize(
    "content_type",
    ["application/octet-stream", "image/png", "application/ndjson", "application/x-protobuf"],
)
def test_all_else_is_base64_and_says_so(content_type: str) -> None:
    assert not is_text(content_type)
    got = dict(FORMAT.headers(part(content_type=content_type).info))
    assert got["stream-sse-data-encoding"] == "base64"


# Beginning and end -------------------------------------------------------------------------------


def test_a_browser_is_told_how_soon_to_come_back() -> None:
    reader = EventStreamReader()
    reader.feed(FORMAT.begin(part(b"abc"), NOW))
    assert reader.retry_ms == 1000
    assert reader.messages == []


def test_a_stream_that_begins_later_says_where() -> None:
    first = part(b"abc", start=10, first=10)
    got = control(FORMAT.begin(first, NOW))
    assert got["streamFirstOffset"] == got["streamNextOffset"] == str(Offset(7, 10))
    assert got["streamCursor"] == "1000"


def test_a_reader_who_is_further_is_not_told_where_it_begins() -> None:
    assert messages(FORMAT.begin(part(b"abc", start=12, first=10), NOW)) == []


def test_a_gap_ends_the_answer_for_an_ordinary_one_says_410() -> None:
    assert FORMAT.gap(Gap(Offset(7, 1), Offset(7, 5))) is None


@pytest.mark.parametrize("reason", [Reason.CLOSED, Reason.LIFETIME, Reason.DELETED, Reason.GAP])
def test_it_just_ends(reason: Reason) -> None:
    assert FORMAT.end(End(reason, "s", START)) == b""


def test_a_server_that_stops_says_when_to_come_back() -> None:
    reader = EventStreamReader()
    reader.feed(FORMAT.end(End(Reason.FAREWELL, "s", START, retry=2.5)))
    assert reader.retry_ms == 2500


def test_a_store_that_fails_does_not_end_it_in_order() -> None:
    with pytest.raises(StoreUnavailable):
        FORMAT.end(End(Reason.FAILED, "s", START, error=StoreUnavailable("s", "broke")))


# Cursors

MOST = int(limits.CURSOR_JITTER / limits.CURSOR_INTERVAL)

cursors = st.integers(0, 10**15 - 1)
times = st.floats(EPOCH, EPOCH + 10**9)
salts = st.integers(0, 2**32 - 1)


def test_cursors_count_spans_of_twenty_seconds() -> None:
    assert interval_of(EPOCH) == 0
    assert interval_of(EPOCH + 19.999) == 0
    assert interval_of(EPOCH + 20) == 1
    assert interval_of(EPOCH + 20 * 1000 + 1) == 1000


def test_a_clock_before_the_epoch_gives_no_negative_cursor() -> None:
    assert interval_of(0.0) == 0


def test_a_client_with_an_older_cursor_or_none_gets_that_of_now() -> None:
    now = EPOCH + 20 * 1000
    assert next_cursor(None, now, 1) == 1000
    assert next_cursor(999, now, 1) == 1000


@given(cursors, times, salts)
def test_a_cursor_never_goes_back_and_never_stays(given_: int, now: float, salt: int) -> None:
    got = next_cursor(given_, now, salt)
    assert got > given_
    assert got >= interval_of(now)


@given(cursors, salts)
def test_it_is_moved_on_by_an_hour_at_most(given_: int, salt: int) -> None:
    assert 1 <= next_cursor(given_, EPOCH, salt) - given_ <= MOST


@given(cursors, times, salts)
def test_clients_that_send_the_same_get_the_same(given_: int, now: float, salt: int) -> None:
    assert next_cursor(given_, now, salt) == next_cursor(given_, now, salt)


def test_processes_and_cursors_are_spread_over_the_hour() -> None:
    steps = {next_cursor(given_, EPOCH, 7) - given_ for given_ in range(2000)}
    assert len(steps) == MOST
