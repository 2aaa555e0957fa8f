from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
import sse_starlette
from fastapi import FastAPI, HTTPException, Request
from fastapi.sse import ServerSentEvent
from pydantic import BaseModel

from tailrace import (
    CSVResponse,
    Event,
    EventSourceResponse,
    JSONArrayResponse,
    JSONLinesResponse,
    StreamingResponse,
)
from tailrace.testing import Client, Clock, ReceivedEvent, SourceProbe, Truncated, settle
from tests.responses.fetched import fetch

pytestmark = pytest.mark.anyio


class Price(BaseModel):
    name: str
    price: float


@dataclass
class Point:
    x: int
    y: int


async def events_of(content: Any, **headers: str) -> list[ReceivedEvent]:
    app = content if isinstance(content, FastAPI) else EventSourceResponse(content)
    async with (
        Client(app) as client,
        client.open("GET", "/", headers=headers) as exchange,
    ):
        return [event async for event in exchange.events()]


# Headers -----------------------------------------------------------------------------------------


async def test_events_are_not_stored_and_not_buffered() -> None:
    got = await fetch(EventSourceResponse(["x"]))
    assert got.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert got.headers["cache-control"] == "no-store"
    assert got.headers["x-accel-buffering"] == "no"


async def test_headers_that_are_given_are_kept() -> None:
    given = {"Cache-Control": "no-cache", "X-Accel-Buffering": "yes", "X-Name": "value"}
    got = await fetch(EventSourceResponse(["x"], 202, given))
    assert got.status == 202
    assert got.headers.getlist("cache-control") == ["no-cache"]
    assert got.headers.getlist("x-accel-buffering") == ["yes"]
    assert got.headers["x-name"] == "value"


# The arguments of sse-starlette ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "instead"),
    [
        ("ping", "heartbeat"),
        ("ping_message_factory", "heartbeat_text"),
        ("sep", "LF"),
        ("data_sender_callable", "yields"),
        ("send_timeout", r"StreamOptions\(send_timeout"),
        ("client_close_handler_callable", "finally"),
        ("shutdown_event", r"tailrace.shutdown_event\(\)"),
        ("shutdown_grace_period", "shutdown_grace"),
        ("cleanup_timeout", r"StreamOptions\(cleanup_timeout"),
    ],
)
def test_an_argument_of_sse_starlette_is_refused_in_words_that_name_ours(
    argument: str, instead: str
) -> None:
    given: Any = {argument: None}
    with pytest.raises(TypeError, match=f"{argument}.*{instead}.*tailrace.compat.sse_starlette"):
        EventSourceResponse([], **given)


def test_each_argument_of_sse_starlette_is_known() -> None:
    parameters = inspect.signature(sse_starlette.EventSourceResponse).parameters
    for name in parameters.keys() - inspect.signature(StreamingResponse).parameters.keys():
        with pytest.raises(TypeError, match="in place of that argument of sse-starlette use"):
            EventSourceResponse([], **{name: None})  # type: ignore[arg-type] # that is what is tested


def test_any_other_argument_is_refused_as_python_does() -> None:
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'heartbeats'$"):
        EventSourceResponse([], heartbeats=1)  # type: ignore[arg-type] # that is what is tested


# Items -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "event"),
    [
        ("as it is", ReceivedEvent("as it is")),
        ("two\nlines", ReceivedEvent("two\nlines")),
        (b"bytes", ReceivedEvent("bytes")),
        (bytearray(b"bytes"), ReceivedEvent("bytes")),
        (memoryview(b"bytes"), ReceivedEvent("bytes")),
        ({"a": 1}, ReceivedEvent('{"a":1}')),
        ([1, None], ReceivedEvent("[1,null]")),
        (5, ReceivedEvent("5")),
        (Price(name="oil", price=1.5), ReceivedEvent('{"name":"oil","price":1.5}')),
        (Point(1, 2), ReceivedEvent('{"x":1,"y":2}')),
        (
            Event({"a": 1}, event="price", id="7", retry=500),
            ReceivedEvent('{"a":1}', "price", "7", 500),
        ),
        (
            ServerSentEvent(data={"a": 1}, event="price", id="7", retry=500),
            ReceivedEvent('{"a":1}', "price", "7", 500),
        ),
        (ServerSentEvent(raw_data="plain"), ReceivedEvent("plain")),
        (
            sse_starlette.ServerSentEvent("plain", event="price", id="7", retry=500),
            ReceivedEvent("plain", "price", "7", 500),
        ),
    ],
)
async def test_each_kind_of_item_is_an_event(item: Any, event: ReceivedEvent) -> None:
    assert await events_of([item]) == [event]


async def test_a_text_is_one_event() -> None:
    assert await events_of("one") == [ReceivedEvent("one")]


async def test_an_item_that_nobody_can_write_is_an_error_event_after_the_first() -> None:
    async with (
        Client(EventSourceResponse(["first", object()])) as client,
        client.open("GET", "/") as exchange,
    ):
        assert await exchange.event() == ReceivedEvent("first")
        error = await exchange.event()
        assert error is not None
        assert (error.event, error.json()["error"]["code"]) == ("error", "invalid_chunk")
        with pytest.raises(Truncated):
            await exchange.event()


# Where the client was ----------------------------------------------------------------------------


async def from_there(last: str | None) -> AsyncIterator[Any]:
    yield Event("next", id=str(int(last or 0) + 1))


async def test_a_function_is_told_where_the_client_was() -> None:
    events = await events_of(from_there, **{"last-event-id": "41"})
    assert [event.id for event in events] == ["42"]


async def test_a_function_is_told_none_the_first_time() -> None:
    asked: list[str | None] = []

    def source(last: str | None) -> list[str]:
        asked.append(last)
        return ["x"]

    assert await events_of(source) == [ReceivedEvent("x")]
    assert asked == [None]


@pytest.mark.parametrize(
    ("sent", "given"),
    [
        ("Bücher/日本".encode(), "Bücher/日本"),
        (b"\xff\xfe7", "\ufffd\ufffd7"),
        (b"x" * 5000, "x" * 5000),
        (b"", None),
    ],
)
async def test_the_id_is_read_as_the_browser_wrote_it(sent: bytes, given: str | None) -> None:
    asked: list[str | None] = []

    def source(last: str | None) -> list[str]:
        asked.append(last)
        return ["x"]

    headers = {"last-event-id": sent.decode("latin-1")}
    assert await events_of(source, **headers) == [ReceivedEvent("x")]
    assert asked == [given]


async def test_a_function_is_asked_each_time_the_response_is_sent() -> None:
    response = EventSourceResponse(from_there)
    assert (await fetch(response, last_event_id="1")).body == b"data: next\nid: 2\n\n"
    assert (await fetch(response, last_event_id="2")).body == b"data: next\nid: 3\n\n"


async def test_what_a_function_gives_is_not_lost_where_the_body_is_wrapped() -> None:
    response = EventSourceResponse(from_there)
    wrapped = response.body_iterator
    with pytest.raises(TypeError, match="Wrap what the function returns"):
        [chunk async for chunk in wrapped]
    assert (await fetch(response, last_event_id="1")).body == b"data: next\nid: 2\n\n"


async def test_a_function_that_refuses_is_an_ordinary_error() -> None:
    app = FastAPI()

    def forgotten(last: str | None) -> Iterator[str]:
        raise HTTPException(410, f"{last} is no longer kept")

    @app.get("/")
    async def endpoint() -> EventSourceResponse:
        return EventSourceResponse(forgotten)

    got = await fetch(app, last_event_id="7")
    assert (got.status, json.loads(got.body)) == (410, {"detail": "7 is no longer kept"})


async def test_a_function_that_gives_nothing_to_iterate_is_told_the_type() -> None:
    def source(last: str | None) -> Any:
        return 5

    async with (
        Client(EventSourceResponse(source)) as client,
        client.open("GET", "/") as exchange,
    ):
        with pytest.raises(TypeError, match="not int"):
            await exchange.response()


async def test_head_does_not_ask_the_function() -> None:
    def source(last: str | None) -> list[str]:
        raise AssertionError("HEAD runs nothing")

    got = await fetch(EventSourceResponse(source, 202), method="HEAD")
    assert (got.status, got.body) == (202, b"")


class CallableItems:
    """Both can be called and can be iterated: iterating it is what it is for."""

    def __call__(self, last: str | None) -> list[str]:
        return ["called"]

    def __iter__(self) -> Iterator[str]:
        return iter(["iterated"])


async def test_an_iterable_that_can_be_called_is_iterated() -> None:
    assert await events_of(CallableItems()) == [ReceivedEvent("iterated")]


# `yield` endpoints -------------------------------------------------------------------------------

CLASSES = [
    (StreamingResponse, b"ab"),
    (EventSourceResponse, b"data: a\n\ndata: b\n\n"),
    (JSONLinesResponse, b'"a"\n"b"\n'),
    (JSONArrayResponse, b'["a","b"]'),
]


@pytest.mark.parametrize(("response_class", "body"), CLASSES)
async def test_an_async_yield_endpoint_streams(response_class: Any, body: bytes) -> None:
    app = FastAPI()

    @app.get("/", response_class=response_class, status_code=202)
    async def endpoint() -> AsyncIterator[str]:
        yield "a"
        yield "b"

    got = await fetch(app)
    assert (got.status, got.body) == (202, body)


@pytest.mark.parametrize(("response_class", "body"), CLASSES)
async def test_a_sync_yield_endpoint_streams(response_class: Any, body: bytes) -> None:
    app = FastAPI()

    @app.get("/", response_class=response_class, status_code=202)
    def endpoint() -> Iterator[str]:
        yield "a"
        yield "b"

    got = await fetch(app)
    assert (got.status, got.body) == (202, body)


async def test_a_yield_endpoint_streams_csv() -> None:
    app = FastAPI()

    @app.get("/", response_class=CSVResponse)
    async def endpoint() -> AsyncIterator[dict[str, int]]:
        yield {"a": 1}

    assert (await fetch(app)).body == b"a\r\n1\r\n"


async def test_a_yield_endpoint_is_told_where_the_client_was_as_any_header() -> None:
    app = FastAPI()

    @app.get("/", response_class=EventSourceResponse)
    async def endpoint(request: Request) -> AsyncIterator[str]:
        yield request.headers["last-event-id"]

    assert await events_of(app, **{"last-event-id": "41"}) == [ReceivedEvent("41")]


async def test_an_error_before_the_first_item_of_a_yield_endpoint_has_its_own_status(
    clock: Clock,
) -> None:
    app = FastAPI()

    @app.get("/", response_class=EventSourceResponse)
    async def endpoint() -> AsyncIterator[str]:
        raise HTTPException(403, "not yours")
        yield "x"

    got = await fetch(app)
    assert (got.status, json.loads(got.body)) == (403, {"detail": "not yours"})


@pytest.mark.parametrize("response_class", [each for each, _ in CLASSES])
@pytest.mark.parametrize("moment", ["while it waits", "between two items"])
async def test_a_yield_endpoint_is_closed_in_its_own_task_when_the_client_leaves(
    response_class: Any, moment: str
) -> None:
    app = FastAPI()
    probe = SourceProbe()
    cleaned = anyio.Event()

    @app.get("/", response_class=response_class)
    async def endpoint() -> AsyncIterator[str]:
        with probe.inside():
            try:
                while True:
                    yield "x" * (10 if moment == "while it waits" else 100_000)
                    if moment == "while it waits":
                        await anyio.sleep(1000)
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0)
                    cleaned.set()

    closed_before_return: list[bool] = []

    async def recorded(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)
        closed_before_return.append(probe.closed.is_set())

    async with Client(recorded) as client, client.open("GET", "/") as exchange:
        await exchange.read()
        await settle()
        await exchange.leave()
        assert (await exchange.finished()).error is None
    assert closed_before_return == [True]
    assert cleaned.is_set()
    assert probe.how == ("cancelled" if moment == "while it waits" else "closed")
    assert probe.same_task
    assert probe.same_context


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_yield_endpoint_that_is_never_started_is_closed(method: str) -> None:
    app = FastAPI()
    made: list[Any] = []

    class Kept(EventSourceResponse):
        def __init__(self, content: Any, **kwargs: Any) -> None:
            made.append(content.ag_frame.f_locals["async_gen"])
            super().__init__(content, **kwargs)

    @app.api_route("/", methods=["GET", "HEAD"], response_class=Kept)
    async def endpoint() -> AsyncIterator[str]:
        yield "x"

    await fetch(app, method=method)
    assert made[0].ag_frame is None


def wrapper_of(source: AsyncIterator[Any]) -> Any:
    async def _async_stream_raw(async_gen: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for item in async_gen:
            yield f"wrapped {item}"

    return _async_stream_raw(source)


async def test_somebody_elses_generator_of_the_same_name_is_left_alone() -> None:
    events = await events_of(wrapper_of(from_there(None)))
    assert [event.data for event in events] == ["wrapped " + repr(Event("next", id="1"))]


def numbered(make: Callable[[], Any]) -> FastAPI:
    app = FastAPI()
    app.get("/", response_class=EventSourceResponse)(make)
    return app


async def test_fastapis_own_events_pass_through_a_yield_endpoint() -> None:
    async def endpoint() -> AsyncIterator[ServerSentEvent]:
        yield ServerSentEvent(data={"a": 1}, id="7")

    assert await events_of(numbered(endpoint)) == [ReceivedEvent('{"a":1}', id="7")]
