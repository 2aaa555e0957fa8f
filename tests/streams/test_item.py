from __future__ import annotations

from typing import Any

import pytest
import sse_starlette
from fastapi.sse import ServerSentEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import from_json

from tailrace import limits
from tailrace.errors import InvalidChunk
from tailrace.framing import Event
from tailrace.store import split, wire_of
from tailrace.streams.item import END_BYTES, RunEnd, end_in, message_of, parse, wire_of_end

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(max_examples=40)
@given(JSON.filter(lambda item: not (isinstance(item, dict) and "tailrace" in item)))
def test_an_item_is_one_message_and_comes_back(item: Any) -> None:
    (message,) = split(message_of(item))
    assert parse(message) == (item, None)


@settings(max_examples=40)
@given(st.text(min_size=1).filter(lambda name: not set("\r\n") & set(name)), JSON)
def test_a_named_event_is_one_message_and_comes_back(name: str, data: Any) -> None:
    (message,) = split(message_of(Event(data, event=name)))
    assert parse(message) == (data, name)


@settings(max_examples=40)
@given(st.text(), st.lists(JSON))
@pytest.mark.slow
def test_an_end_is_found_behind_any_items(sentence: str, items: list[Any]) -> None:
    end = RunEnd("failed", "stream_failed", sentence)
    wire = b"".join(message_of([item]) for item in items) + wire_of_end(end)
    found = end_in(wire)
    assert found is not None
    assert (found.status, found.code) == ("failed", "stream_failed")
    assert found.message == sentence[: limits.MAX_END_CHARS]


@settings(max_examples=40)
@given(JSON)
def test_no_item_is_taken_for_an_end(inner: Any) -> None:
    for item in (
        '{"tailrace":{"end":"done"}}',
        {"x": {"tailrace": {"end": "done"}}},
        [{"tailrace": {"end": "done"}}],
        [inner, {"tailrace": {"end": "done"}}],
    ):
        assert end_in(message_of(item)) is None


@pytest.mark.parametrize("length", [limits.MAX_END_CHARS, limits.MAX_END_CHARS + 1])
def test_the_sentence_of_an_end_has_a_bound(length: int) -> None:
    wire = wire_of_end(RunEnd("lost", "worker_lost", "\0" * length))
    assert len(wire) <= END_BYTES
    found = end_in(wire)
    assert found is not None
    assert len(found.message) == limits.MAX_END_CHARS


def test_an_end_that_is_cut_off_is_none() -> None:
    wire = wire_of_end(RunEnd("done"))
    assert end_in(wire) == RunEnd("done")
    assert end_in(wire[3:]) is None
    assert end_in(wire[:-1]) is None
    assert end_in(b'{"tailrace":{"end":"other"}},') is None
    assert end_in(b'{"tailrace":{"end":"done"},"x":1},') is None
    assert end_in(b'{"tailrace":{"end":"done","event":"x"}},') is None
    assert end_in(b"") is None


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (ServerSentEvent(data={"a": 1}, event="step"), ({"a": 1}, "step")),
        (ServerSentEvent(raw_data="as it is"), ("as it is", None)),
        (sse_starlette.ServerSentEvent("text", event="step"), ("text", "step")),
    ],
)
def test_events_of_others_are_known(item: Any, expected: tuple[Any, str | None]) -> None:
    (message,) = split(message_of(item))
    assert parse(message) == expected


@pytest.mark.parametrize("item", [Event(comment="x"), ServerSentEvent(comment="x")])
def test_what_only_comments_is_no_message(item: Any) -> None:
    assert message_of(item) == b""


@pytest.mark.parametrize(
    "item", [{"tailrace": 1}, {"tailrace": {"end": "done"}}, Event({"tailrace": 1}), object()]
)
def test_what_is_ours_or_no_json_is_refused(item: Any) -> None:
    with pytest.raises(InvalidChunk):
        message_of(item)


def test_an_unpaired_surrogate_in_an_error_s_text_is_no_obstacle() -> None:
    found = end_in(wire_of_end(RunEnd("failed", "x", "\ud800")))
    assert found == RunEnd("failed", "x", "\\ud800")


def test_what_a_client_of_the_protocol_wrote_is_data() -> None:
    for message in (
        b'{"tailrace":1}',
        b'{"tailrace":{"event":5}}',
        b'{"tailrace":{},"x":1}',
        b'{"tailrace":{"end":[]}}',
    ):
        assert parse(message) == (from_json(message), None)
        assert end_in(message + b",") is None


@pytest.mark.parametrize(
    ("message", "data"),
    [
        (b'"\\ud800"', "\ufffd"),
        (b'{"a":"\\ud83d\\ude00\\ud800"}', {"a": "\U0001f600\ufffd"}),
        (b'{"n":' + b"2" * 5000 + b"}", {"n": float("inf")}),
        (b"-" + b"1" * 5000, float("-inf")),
    ],
)
def test_what_another_writer_put_there_is_read_whatever_it_is(message: bytes, data: Any) -> None:
    # All of it is JSON, and so the protocol takes it.
    assert split(wire_of(message)) == [message]
    assert parse(message) == (data, None)
