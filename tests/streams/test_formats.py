"""Events, lines and raw bytes: what each format makes of a stream and of its end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tailrace.errors import OffsetGone, RunEnded, StoreUnavailable, StreamNotFound
from tailrace.live import End, Format, Gap, Reason
from tailrace.store import Chunk, Offset, Retention, Slice, StreamInfo, wire_of
from tailrace.streams.formats import Events, Lines, Raw
from tailrace.testing import EventParser, ReceivedEvent

JSON = "application/json"
NOW = 1.0


def part_of(*chunks: bytes, content_type: str = JSON, closed: bool = False) -> Slice:
    at, made = 0, []
    for chunk in chunks:
        at += len(chunk)
        made.append(Chunk(chunk, Offset(7, at)))
    info = StreamInfo(
        path="s",
        content_type=content_type,
        first=Offset(0, 0),
        tail=Offset(7, at),
        closed=closed,
        ttl=None,
        expires_at=None,
        retention=Retention(),
        forked_from=None,
        created_at=0,
    )
    return Slice(info, Offset(0, 0), tuple(made))


def events_of(data: bytes) -> list[ReceivedEvent]:
    return list(EventParser().feed(data))


def end_of(reason: Reason, last: Slice | None = None, **facts: Any) -> End:
    return End(reason, "s", Offset(7, 3), last, **facts)


LOST = '{"error":{"code":"worker_lost","message":"m"}}'
FAILED = b'{"tailrace":{"end":"failed","code":"boom","message":"it broke"}},'
GAP = Gap(Offset(7, 3), Offset(7, 9))


def test_each_message_is_an_event_with_the_offset_after_it() -> None:
    events = events_of(Events().frame(part_of(b'{"a":1},"hi",', b"[2,3],"), NOW))
    assert [event.data for event in events] == ['{"a":1}', "hi", "[2,3]"]
    assert [event.id for event in events] == [str(Offset(7, at)) for at in (8, 13, 19)]


def test_text_on_several_lines_arrives_as_it_was() -> None:
    (event,) = events_of(Events().frame(part_of(json.dumps("a\n b\n").encode() + b","), NOW))
    assert event.data == "a\n b\n"


def test_json_on_several_lines_stays_json() -> None:
    (event,) = events_of(Events().frame(part_of(b'{\r\n"a":\n1},'), NOW))
    assert json.loads(event.data) == {"a": 1}


@pytest.mark.parametrize(
    ("told", "name", "data"),
    [
        ({"event": "step", "data": {"n": 1}}, "step", '{"n":1}'),
        ({"event": "step", "data": "text"}, "step", "text"),
        ({"event": "x\nevent: y", "data": 1}, "message", "1"),
        ({"end": "done"}, "end", "{}"),
        ({"end": "lost", "code": "worker_lost", "message": "m"}, "error", LOST),
    ],
)
def test_messages_of_ours_are_named_events(told: dict[str, Any], name: str, data: str) -> None:
    wire = json.dumps({"tailrace": told}, separators=(",", ":")).encode() + b","
    (event,) = events_of(Events().frame(part_of(wire), NOW))
    assert (event.event, event.data) == (name, data)


def test_an_object_that_only_looks_like_one_of_ours_is_data() -> None:
    for text in ('{"tailrace":1}', '{"tailrace":{"end":"done"},"more":1}', '{"tailrace":{}}'):
        (event,) = events_of(Events().frame(part_of(text.encode() + b","), NOW))
        assert (event.event, event.data) == ("message", text)


def test_other_streams_are_an_event_for_each_append() -> None:
    text = events_of(Events().frame(part_of(b"one", b"two", content_type="text/plain"), NOW))
    assert [event.data for event in text] == ["one", "two"]
    octets = events_of(Events().frame(part_of(b"\0\xff", content_type="image/png"), NOW))
    assert [event.data for event in octets] == ["AP8="]
    headers = dict(Events().headers(part_of(content_type="image/png").info))
    assert headers["stream-sse-data-encoding"] == "base64"


def test_a_client_is_told_to_come_back_soon_and_when_the_server_stops_later() -> None:
    assert Events().begin(part_of(), NOW) == b"retry: 1000\n\n"
    assert b"retry: 3000\n" in Events().end(end_of(Reason.FAREWELL, retry=3.0))


def test_a_gap_is_an_event() -> None:
    (event,) = events_of(Events().gap(GAP))
    assert (event.event, event.id) == ("gap", str(GAP.end))
    assert json.loads(event.data) == {"from": str(GAP.start), "to": str(GAP.end)}


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (end_of(Reason.DELETED), "stream_not_found"),
        (
            end_of(Reason.FAILED, error=StoreUnavailable("x", "secret")),
            "store_unavailable",
        ),
    ],
)
def test_what_ends_events_early_is_told_without_secrets(end: End, code: str) -> None:
    (event,) = events_of(Events().end(end))
    assert event.event == "error"
    assert json.loads(event.data)["error"]["code"] == code
    assert "secret" not in event.data


def test_lines_are_messages() -> None:
    wire = b'{"a":\n1},"hi",{"tailrace":{"event":"e","data":2}},{"tailrace":{"end":"done"}},'
    lines = Lines().frame(part_of(wire), NOW).splitlines()
    assert [json.loads(line) for line in lines] == [{"a": 1}, "hi", {"event": "e", "data": 2}]


def test_a_run_that_failed_ends_with_an_error_and_cuts_lines() -> None:
    last = part_of(b'"a",', FAILED, closed=True)
    lines = Lines().frame(last, NOW).splitlines()
    assert json.loads(lines[-1]) == {"error": {"code": "boom", "message": "it broke"}}
    with pytest.raises(RunEnded, match="it broke"):
        Lines().end(end_of(Reason.CLOSED, last))


def test_a_gap_is_a_line() -> None:
    assert json.loads(Lines().gap(GAP)) == {"gap": {"from": str(GAP.start), "to": str(GAP.end)}}


def test_raw_is_the_text_of_strings_and_the_json_of_all_else() -> None:
    wire = b'"Hel","lo ",{"a":1},{"tailrace":{"event":"e","data":2}},"\\ud800",'
    assert Raw().frame(part_of(wire), NOW).decode() == 'Hello {"a":1}\n\ufffd'
    assert Raw().frame(part_of(b"\0\1", b"\2", content_type="image/png"), NOW) == b"\0\1\2"


def test_raw_has_the_type_of_the_stream() -> None:
    assert dict(Raw().headers(part_of(content_type="image/png").info))["content-type"] == (
        "image/png"
    )
    assert dict(Raw().headers(part_of().info))["content-type"] == "text/plain; charset=utf-8"


def test_lines_say_that_the_store_has_failed() -> None:
    line = Lines().end(end_of(Reason.FAILED, error=StoreUnavailable("x", "secret")))
    told = {"code": "store_unavailable", "message": "the stream cannot be read now"}
    assert json.loads(line) == {"error": told}


def test_raw_has_no_word_for_a_store_that_has_failed() -> None:
    with pytest.raises(StoreUnavailable):
        Raw().end(end_of(Reason.FAILED, error=StoreUnavailable("x", "y")))


@pytest.mark.parametrize("format_", [Lines(), Raw()])
@pytest.mark.parametrize(
    ("end", "error"),
    [
        (end_of(Reason.DELETED), StreamNotFound),
        (end_of(Reason.GAP, gap=GAP), OffsetGone),
        (end_of(Reason.CLOSED, part_of(FAILED, closed=True)), RunEnded),
    ],
)
def test_what_is_not_whole_is_cut(format_: Format, end: End, error: type[Exception]) -> None:
    with pytest.raises(error):
        format_.end(end)


@pytest.mark.parametrize("format_", [Lines(), Raw(), Events()])
def test_what_is_whole_ends_in_order(format_: Format) -> None:
    last = part_of(b'{"tailrace":{"end":"done"}},', closed=True)
    assert format_.end(end_of(Reason.CLOSED, last)) == b""
    assert format_.end(end_of(Reason.CLOSED, part_of(closed=True))) == b""
    assert format_.end(end_of(Reason.LIFETIME)) == b""


def test_equal_formats_are_one_key() -> None:
    assert len({Events(), Events(), Lines(), Lines(), Raw(), Raw()}) == 3


# Valid JSON that no format can write as it is: whoever may append could stop every reader with it.
AWKWARD = [
    b'"\\ud800"',
    b'{"a":"\\udfff"}',
    b'{"tailrace":{"event":"\\ud800","data":1}}',
    b'{"tailrace":{"event":"a","data":"\\ud800"}}',
    b'{"tailrace":{"event":"a","data":%b}}' % (b"9" * 5000),
    b'{"tailrace":{"event":"a","data":1e999}}',
    b'{"tailrace":{"event":"a\\nb","data":1}}',
    b'{"tailrace":{"event":"","data":1}}',
    b'{"tailrace":{"event":"a\\u0000b","data":1}}',
    b'{"tailrace":{"end":"\\ud800"}}',
    b'{"tailrace":{"end":"failed","code":"\\ud800","message":"\\ud800"}}',
    b'{"tailrace":null}',
    b'{"tailrace":{"end":"done"},"tailrace":1}',
    b"9" * 5000,
]


@pytest.mark.parametrize("message", AWKWARD)
@pytest.mark.parametrize("kind", [Events(), Lines(), Raw()], ids=lambda each: type(each).__name__)
def test_no_message_that_can_be_appended_keeps_readers_from_what_follows(
    kind: Format, message: bytes
) -> None:
    assert wire_of(message) == message + b","
    written = kind.frame(part_of(message + b",", b'"next",'), NOW)
    assert b"next" in written
    written.decode()
    if isinstance(kind, Events):
        assert events_of(written)[-1].data == "next"
    if isinstance(kind, Lines):
        for line in written.splitlines():
            json.loads(line, parse_int=float)


def test_only_the_last_message_can_be_the_end_of_a_run() -> None:
    last = part_of(FAILED + b'"and on",', closed=True)
    assert Lines().end(end_of(Reason.CLOSED, last)) == b""
    with pytest.raises(RunEnded):
        Lines().end(end_of(Reason.CLOSED, part_of(b'"so far",' + FAILED, closed=True)))
