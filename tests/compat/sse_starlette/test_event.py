"""The bytes are those of sse-starlette itself, which is installed for that."""

from __future__ import annotations

from typing import Any

import pytest
import sse_starlette
import sse_starlette.event as theirs
from hypothesis import given
from hypothesis import strategies as st

from tailrace import Event, EventSourceResponse
from tailrace.compat.sse_starlette import JSONServerSentEvent, ServerSentEvent
from tailrace.compat.sse_starlette.event import ensure_bytes
from tailrace.framing import is_event
from tests.responses.fetched import fetch

text = st.text(st.characters(codec="utf-8") | st.sampled_from("\r\n: "), max_size=12)
separators = st.sampled_from(["\r\n", "\r", "\n"])
fields = st.fixed_dictionaries(
    {},
    optional={
        "data": text | st.integers() | st.none(),
        "event": text,
        "id": text,
        "retry": st.integers(0, 10**6),
        "comment": text,
        "sep": separators,
    },
)


@given(fields)
def test_an_event_has_the_bytes_of_theirs(given: dict[str, Any]) -> None:
    assert ServerSentEvent(**given).encode() == theirs.ServerSentEvent(**given).encode()


@given(fields | text | st.binary(max_size=8) | st.integers(), separators)
def test_an_item_has_the_bytes_of_theirs(item: Any, sep: str) -> None:
    assert ensure_bytes(item, sep) == theirs.ensure_bytes(item, sep)


@pytest.mark.parametrize("data", [{"a": "é", "b": [1, None]}, "text", 0, None])
def test_json_has_the_bytes_of_theirs(data: Any) -> None:
    given: dict[str, Any] = {"event": "e", "id": "7"}
    ours = JSONServerSentEvent(data, **given).encode()
    assert ours == theirs.JSONServerSentEvent(data, **given).encode()


def test_json_refuses_what_is_none() -> None:
    with pytest.raises(ValueError, match="JSON"):
        JSONServerSentEvent(float("nan"))


def test_a_retry_that_is_no_number_is_refused() -> None:
    with pytest.raises(TypeError, match="retry argument must be int"):
        ServerSentEvent("x", retry="soon").encode()  # type: ignore[arg-type] # that is what is tested


def test_a_separator_that_ends_no_line_is_refused() -> None:
    with pytest.raises(ValueError, match="sep must be one of"):
        ServerSentEvent("x", sep="\n\n")


@pytest.mark.anyio
async def test_our_own_response_knows_their_events_in_either_package() -> None:
    assert is_event(ServerSentEvent)
    for made in (ServerSentEvent, JSONServerSentEvent, sse_starlette.ServerSentEvent):
        body = (await fetch(EventSourceResponse([made("x", event="e", id="7")]))).body
        data = b'"x"' if made is JSONServerSentEvent else b"x"
        assert body == b"event: e\ndata: " + data + b"\nid: 7\n\n"
        assert body == (await fetch(EventSourceResponse([Event(data, event="e", id="7")]))).body
