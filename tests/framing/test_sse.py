from __future__ import annotations

import dataclasses
import datetime
import enum
import itertools
import json
import re
import uuid
from typing import Any

import fastapi.sse
import pytest
import sse_starlette
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from tailrace.errors import InvalidChunk, InvalidEvent, Problem
from tailrace.framing import Event, ServerSentEvents
from tailrace.limits import MAX_RETRY_MS
from tests.framing.strategies import json_values, text
from tests.framing.whatwg import Message, read


class Price(BaseModel):
    symbol: str
    cents: int


@dataclasses.dataclass
class Point:
    x: int
    y: int


class Kind(str, enum.Enum):  # noqa: UP042 - the old way, whose str() is not its value
    TICK = "tick"


def frame(item: object) -> bytes:
    return ServerSentEvents().frame(item)


def lines_normalised(value: str) -> str:
    return re.sub("\r\n|\r", "\n", value)


@pytest.mark.parametrize(
    ("item", "wire"),
    [
        ("hello", b"data: hello\n\n"),
        ("", b"data: \n\n"),
        (" led by a space", b"data:  led by a space\n\n"),
        ("one\ntwo\r\nthree\rfour", b"data: one\ndata: two\ndata: three\ndata: four\n\n"),
        ("ends with a break\n", b"data: ends with a break\ndata: \n\n"),
        ("a\u2028b\x85c\x0bd", "data: a\u2028b\x85c\x0bd\n\n".encode()),
        (b"raw \xff", b"data: raw \xff\n\n"),
        (b"one\r\ntwo", b"data: one\ndata: two\n\n"),
        (bytearray(b"buffer"), b"data: buffer\n\n"),
        (memoryview(b"abcdef")[::2], b"data: ace\n\n"),
        (Kind.TICK, b"data: tick\n\n"),
    ],
)
def test_text_and_bytes_are_data_as_they_are(item: object, wire: bytes) -> None:
    assert frame(item) == wire


@pytest.mark.parametrize(
    ("item", "data"),
    [
        ({"a": [1, None]}, b'{"a":[1,null]}'),
        ([1, 2], b"[1,2]"),
        ((1, "x"), b'[1,"x"]'),
        (5, b"5"),
        (1.5, b"1.5"),
        (True, b"true"),
        (None, b"null"),
        (float("nan"), b"null"),
        ({"text": "a\nb"}, b'{"text":"a\\nb"}'),
        (Price(symbol="ACME", cents=5), b'{"symbol":"ACME","cents":5}'),
        (Point(1, 2), b'{"x":1,"y":2}'),
        (datetime.datetime(2026, 1, 31, 8, tzinfo=datetime.UTC), b'"2026-01-31T08:00:00Z"'),
        (uuid.UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
    ],
)
def test_everything_else_is_data_as_json(item: object, data: bytes) -> None:
    assert frame(item) == b"data: " + data + b"\n\n"


def test_an_event_writes_each_field_on_its_line() -> None:
    event = Event({"n": 1}, event="tick", id="7", retry=1500, comment="one\r\ntwo")
    assert frame(event) == (b': one\n: two\nevent: tick\nretry: 1500\ndata: {"n":1}\nid: 7\n\n')


@pytest.mark.parametrize(
    ("data", "wire"),
    [
        (None, b"event: e\n\n"),
        ("", b"event: e\ndata: \n\n"),
        ("one\ntwo", b"event: e\ndata: one\ndata: two\n\n"),
        (b"one\ntwo", b"event: e\ndata: one\ndata: two\n\n"),
        ("5", b"event: e\ndata: 5\n\n"),
        (5, b"event: e\ndata: 5\n\n"),
        (False, b"event: e\ndata: false\n\n"),
        (Kind.TICK, b"event: e\ndata: tick\n\n"),
        (Price(symbol="A", cents=1), b'event: e\ndata: {"symbol":"A","cents":1}\n\n'),
    ],
)
def test_the_data_of_an_event_is_written_as_an_item_is(data: Any, wire: bytes) -> None:
    assert frame(Event(data, event="e")) == wire


def test_an_enum_of_text_names_an_event_by_its_value() -> None:
    assert frame(Event("x", event=Kind.TICK, id=Kind.TICK)) == b"event: tick\ndata: x\nid: tick\n\n"


@pytest.mark.parametrize(
    ("event", "wire"),
    [
        (fastapi.sse.ServerSentEvent(data="text"), b'data: "text"\n\n'),
        (fastapi.sse.ServerSentEvent(data={"a": 1}, id="5"), b'data: {"a":1}\nid: 5\n\n'),
        (fastapi.sse.ServerSentEvent(raw_data="a\nb"), b"data: a\ndata: b\n\n"),
        (fastapi.sse.ServerSentEvent(data=Price(symbol="A", cents=1), event="p", retry=3),
         b'event: p\nretry: 3\ndata: {"symbol":"A","cents":1}\n\n'),
        (fastapi.sse.ServerSentEvent(comment="ping"), b": ping\n\n"),
        (fastapi.sse.ServerSentEvent(event="done"), b"event: done\n\n"),
        (fastapi.sse.ServerSentEvent(), b""),
        (sse_starlette.ServerSentEvent("a\r\nb", event="e", id="1", retry=3, comment="c"),
         b": c\nevent: e\nretry: 3\ndata: a\ndata: b\nid: 1\n\n"),
        (sse_starlette.ServerSentEvent(5), b"data: 5\n\n"),
        (sse_starlette.ServerSentEvent("x", event="a\nb", id="1\r\n2"),
         b"event: ab\ndata: x\nid: 12\n\n"),
        (sse_starlette.ServerSentEvent(), b""),
        (sse_starlette.JSONServerSentEvent({"a": 1}, event="e"), b'event: e\ndata: {"a":1}\n\n'),
    ],
)  # fmt: skip
def test_the_event_classes_of_others_are_events(event: object, wire: bytes) -> None:
    assert frame(event) == wire


def test_a_subclass_of_a_foreign_event_is_one_too() -> None:
    class Named(fastapi.sse.ServerSentEvent):
        event: str | None = "named"

    assert frame(Named(raw_data="x")) == b"event: named\ndata: x\n\n"


def test_a_class_of_the_same_name_from_elsewhere_is_json() -> None:
    class ServerSentEvent(BaseModel):
        data: int

    assert frame(ServerSentEvent(data=1)) == b'data: {"data":1}\n\n'


def test_a_foreign_event_cannot_break_out_of_its_line() -> None:
    made = fastapi.sse.ServerSentEvent.model_construct(
        data="x", raw_data=None, event="a\ndata: forged", id=None, retry=None, comment=None
    )
    with pytest.raises(InvalidEvent, match="event="):
        frame(made)
    with pytest.raises(InvalidEvent, match="id="):
        frame(sse_starlette.ServerSentEvent("x", id="\0"))


@pytest.mark.parametrize("item", [object(), ["\ud800"], {1, object()}])
def test_what_pydantic_cannot_write_is_refused_by_its_type(item: object) -> None:
    with pytest.raises(InvalidChunk, match=f"sse response gave {type(item).__name__}") as caught:
        frame(item)
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("item", ["a\ud800b", "a\n\ud800", Event("\ud800")])
def test_a_lone_surrogate_in_data_is_refused(item: object) -> None:
    with pytest.raises(InvalidEvent, match=r"data='\\ud800'.*surrogate"):
        frame(item)


def test_an_end_mark_is_an_event_named_end() -> None:
    (message,) = read([ServerSentEvents(end_mark=True).closing()]).messages
    assert (message.type, message.data) == ("end", "{}")
    assert ServerSentEvents().closing() == b""


def test_a_failure_is_a_typed_event() -> None:
    wire = ServerSentEvents().failure(Problem("stream_failed", 'it said\n"no" \ud800'))
    (message,) = read([wire]).messages
    assert message.type == "error"
    assert json.loads(message.data) == {
        "error": {"code": "stream_failed", "message": 'it said\n"no" \\ud800'}
    }


@pytest.mark.parametrize(
    ("seconds", "retry_ms"), [(1.5, 1500), (0, 0), (-1, 0), (10**9, MAX_RETRY_MS)]
)
def test_a_farewell_names_itself_and_when_to_come_back(seconds: float, retry_ms: int) -> None:
    reader = read([ServerSentEvents().farewell(seconds)])
    assert reader.retry_ms == retry_ms
    (message,) = reader.messages
    assert message.type == "farewell"
    assert json.loads(message.data)["error"]["code"] == "shutting_down"


def test_a_heartbeat_is_seen_by_no_page() -> None:
    reader = read([frame("a"), ServerSentEvents.heartbeat, frame("b")])
    assert [message.data for message in reader.messages] == ["a", "b"]
    assert len(reader.comments) == 1


@pytest.mark.parametrize(
    ("items", "told"),
    [
        ([{"data": "x", "event": "e"}], 1),
        ([{"comment": "x"}, {"id": 1}], 1),
        ([{"data": "x", "price": 1}], 0),
        ([{}], 0),
        ([Event("x", id="1")], 0),
    ],
)
def test_a_dict_that_reads_as_an_event_is_told_of_once(
    items: list[Any], told: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailrace.framing.sse._warned", set())
    for _ in range(2):
        framing = ServerSentEvents()
        for item in items:
            framing.frame(item)
    words = [record.getMessage() for record in caplog.records]
    assert len(words) == told
    assert all("tailrace.compat.sse_starlette" in each for each in words)


def test_each_line_of_a_heartbeats_text_is_a_comment() -> None:
    wire = ServerSentEvents(heartbeat_text="one\ntwo").beat()
    assert wire == b": one\n: two\n\n"


@given(st.lists(text | text.map(str.encode), max_size=4), st.data())
def test_text_comes_back_with_its_lines_normalised(items: list[Any], data: st.DataObject) -> None:
    wire = b"".join(map(frame, items))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=6)))
    bounds = [0, *cuts, len(wire)]
    chunks = [wire[start:stop] for start, stop in itertools.pairwise(bounds)]
    texts = [item if isinstance(item, str) else item.decode() for item in items]
    assert read(chunks).messages == [Message(lines_normalised(text)) for text in texts]


@given(st.lists(json_values.filter(lambda value: not isinstance(value, str)), max_size=4))
def test_json_comes_back_as_it_was(items: list[Any]) -> None:
    messages = read([b"".join(map(frame, items))]).messages
    assert [json.loads(message.data) for message in messages] == items


one_line = text.map(lambda value: re.sub("[\r\n\0]", "", value))


@given(text, one_line, one_line, st.integers(0, MAX_RETRY_MS), text)
def test_each_field_of_an_event_comes_back(
    data: str, name: str, id_: str, retry_ms: int, comment: str
) -> None:
    event = Event(data, event=name, id=id_, retry=retry_ms, comment=comment)
    reader = read([frame(event)])
    expected = Message(lines_normalised(data), name or "message", id_)
    assert reader.messages == [expected]
    assert reader.retry_ms == retry_ms
    assert "\n".join(line[1:] for line in reader.comments) == lines_normalised(comment)


def fields_of(name: str, value: Any) -> dict[str, Any]:
    return {name: value}


def test_data_is_the_only_positional_field() -> None:
    assert Event("hello").data == "hello"
    with pytest.raises(TypeError):
        Event("hello", "tick")  # type: ignore[call-arg]  # what is tested


def test_an_event_cannot_be_changed_after_its_check() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Event("x").id = "1\n2"  # type: ignore[misc]  # what is tested


@pytest.mark.parametrize("field", ["event", "id"])
@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\r\nb", "\n"])
def test_a_line_break_in_a_one_line_field_is_refused(field: str, value: str) -> None:
    with pytest.raises(InvalidEvent, match=rf"{field}=.*one line") as caught:
        Event("x", **fields_of(field, value))
    assert caught.value.field == field


@pytest.mark.parametrize("value", ["a\u2028b", "a\x85b", "a\x0bb", "", " x"])
def test_what_no_parser_takes_for_a_line_break_is_allowed(value: str) -> None:
    assert Event("x", event=value, id=value).id == value


def test_nul_is_refused_in_an_id_only() -> None:
    assert Event("x", event="a\0b").event == "a\0b"
    with pytest.raises(InvalidEvent, match="NUL"):
        Event("x", id="a\0b")


@pytest.mark.parametrize("field", ["event", "id", "comment"])
def test_a_lone_surrogate_is_refused_by_field_and_place(field: str) -> None:
    with pytest.raises(InvalidEvent, match=rf"{field}=.*surrogate at character 2"):
        Event("x", **fields_of(field, "ab\udc80"))


@pytest.mark.parametrize("field", ["event", "id", "comment"])
def test_a_field_that_is_no_text_is_refused(field: str) -> None:
    with pytest.raises(InvalidEvent, match=f"{field}=7 cannot be sent: it must be a str"):
        Event("x", **fields_of(field, 7))


@pytest.mark.parametrize("value", [-1, MAX_RETRY_MS + 1, True, 1.5, "1000"])
def test_a_retry_out_of_its_range_is_refused(value: Any) -> None:
    with pytest.raises(InvalidEvent, match="retry="):
        Event("x", retry=value)


@pytest.mark.parametrize("value", [0, 1, MAX_RETRY_MS])
def test_a_retry_in_its_range_is_kept(value: int) -> None:
    assert Event(retry=value).retry == value


def test_an_event_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidEvent, match="needs data or one of the other fields"):
        Event()


@pytest.mark.parametrize("fields", [{"data": ""}, {"data": 0}, {"id": ""}, {"comment": ""}])
def test_one_field_is_enough_even_when_empty(fields: dict[str, Any]) -> None:
    Event(**fields)


@given(text, text)
def test_an_event_is_made_or_refused_by_the_line_breaks_and_nul_alone(name: str, id_: str) -> None:
    bad = any(char in name + id_ for char in "\r\n") or "\0" in id_
    try:
        Event("x", event=name, id=id_)
    except InvalidEvent:
        assert bad
    else:
        assert not bad
