"""What sse-starlette's users give its response, given to ours in its place."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest
import sse_starlette
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.routing import Mount
from starlette.types import Scope

import tailrace
from tailrace import Event, StreamOptions, drain
from tailrace.compat.sse_starlette import EventSourceResponse, ServerSentEvent
from tailrace.compat.sse_starlette.sse import AppStatus, SendTimeoutError
from tailrace.runtime import Loop
from tailrace.source import Sink, Source
from tailrace.testing import Client, Clock, Truncated, settle, wait_until
from tests.responses.fetched import fetch

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def status() -> Iterator[None]:
    yield
    AppStatus.should_exit = False
    AppStatus.enable_automatic_graceful_drain_mode()


async def ticking(done: anyio.Event | None = None) -> AsyncIterator[dict[str, str]]:
    try:
        while True:
            yield {"data": "tick"}
            await anyio.sleep(1)
    finally:
        if done is not None:
            done.set()


# Items and arguments -----------------------------------------------------------------------------

ITEMS: list[Any] = [
    {"event": "update", "id": "7", "retry": 1500, "data": "hello"},
    {"comment": "note"},
    {"data": {"not": "json"}},
    ServerSentEvent("two\nlines", event="e", sep="\n"),
    b"data: framed\n\n",
    memoryview(b"data: framed\n\n"),
    "text",
    5,
    None,
]


@pytest.mark.parametrize("item", ITEMS)
@pytest.mark.parametrize("sep", [None, "\r\n", "\r", "\n"])
async def test_each_kind_of_item_has_the_bytes_of_theirs(item: Any, sep: str | None) -> None:
    async def source() -> AsyncIterator[Any]:
        yield item

    ours = await fetch(EventSourceResponse(source(), sep=sep))
    theirs = sse_starlette.event.ensure_bytes(_theirs(item), sep or "\r\n")
    assert ours.body == theirs


def _theirs(item: Any) -> Any:
    if isinstance(item, ServerSentEvent):
        return sse_starlette.ServerSentEvent(item.data, event=item.event, sep="\n")
    return item


async def test_our_events_and_those_of_their_package_are_events() -> None:
    made = sse_starlette.ServerSentEvent("theirs", id="1", sep="\n")
    got = await fetch(EventSourceResponse([Event("ours", id="2"), made]))
    assert got.body == b"data: ours\nid: 2\n\nid: 1\ndata: theirs\n\n"


async def test_the_headers_are_theirs() -> None:
    given = {"Cache-Control": "public", "X-Accel-Buffering": "yes", "X-Name": "value"}
    got = await fetch(EventSourceResponse([], 202, given))
    assert got.status == 202
    assert got.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert got.headers.getlist("cache-control") == ["public"]
    assert got.headers.getlist("x-accel-buffering") == ["no"]
    assert got.headers["x-name"] == "value"
    assert (await fetch(EventSourceResponse([]))).headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"sep": "|"}, ValueError, "sep must be one of"),
        ({"ping": -1}, ValueError, "ping interval must be >= 0"),
        ({"ping": "ten"}, TypeError, "ping interval must be int"),
        ({"shutdown_grace_period": -1}, ValueError, "shutdown_grace_period must be >= 0"),
        ({"cleanup_timeout": -1}, ValueError, "cleanup_timeout must be >= 0"),
        ({"send_timeout": -1}, ValueError, "send_timeout"),
    ],
)
def test_an_argument_that_cannot_be_is_refused(
    arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        EventSourceResponse([], **arguments)


async def test_a_dict_with_another_key_ends_the_stream_with_an_error() -> None:
    async with (
        Client(EventSourceResponse([{"data": "1"}, {"bogus": 1}])) as client,
        client.open("GET", "/") as exchange,
    ):
        assert await exchange.event() is not None
        error = await exchange.event()
        assert error is not None
        assert error.event == "error"
        assert error.json()["error"]["code"] == "stream_failed"
        with pytest.raises(Truncated) as caught:
            await exchange.event()
    assert "bogus" in str(caught.value.__cause__)


# A `yield` endpoint: what it declares is what leaves ---------------------------------------------


class Public(BaseModel):
    name: str


class Private(Public):
    password: str = "secret"


async def test_an_item_is_filtered_by_its_declared_type() -> None:
    app = FastAPI()

    @app.get("/", response_class=EventSourceResponse)
    async def endpoint() -> AsyncIterator[Public]:
        yield Private(name="a")

    assert (await fetch(app)).body == b'data: {"name":"a"}\r\n\r\n'


async def test_a_dict_of_a_declared_dict_is_an_event() -> None:
    app = FastAPI()

    @app.get("/", response_class=EventSourceResponse)
    async def endpoint() -> AsyncIterator[dict[str, str]]:
        yield {"event": "e", "data": "x"}

    assert (await fetch(app)).body == b"event: e\r\ndata: x\r\n\r\n"


async def test_bytes_of_declared_bytes_go_out_as_they_are() -> None:
    app = FastAPI()

    @app.get("/", response_class=EventSourceResponse)
    async def endpoint() -> AsyncIterator[bytes]:
        yield b"data: framed\n\n"

    assert (await fetch(app)).body == b"data: framed\n\n"


# Pings -------------------------------------------------------------------------------------------


async def test_a_silence_is_broken_by_pings(clock: Clock) -> None:
    async def source() -> AsyncIterator[str]:
        await anyio.sleep(1000)
        yield "never"

    made = iter(range(100))
    plain = EventSourceResponse(source())
    chosen = EventSourceResponse(
        source(), ping=2, ping_message_factory=lambda: ServerSentEvent(comment=str(next(made)))
    )
    for app, seconds, expected in ((plain, 31, 2), (chosen, 5, 2)):
        async with Client(app) as client, client.open("GET", "/") as exchange:
            await clock.advance(seconds)
            bodies = [sent.body for sent in exchange.sends if sent.body]
        assert len(bodies) == expected
        start = b": ping - " if app is plain else b": 0\r\n\r\n"
        assert bodies[0].startswith(start)
        assert bodies[0].endswith(b"\r\n\r\n")


async def test_pings_can_be_off_and_set_afterwards(clock: Clock) -> None:
    for before, after, expected in ((0, None, 0), (15, 1, 9)):
        app = EventSourceResponse(ticking(), ping=before)
        app.body_iterator = _silence()
        if after is not None:
            app.ping_interval = after
        async with Client(app) as client, client.open("GET", "/") as exchange:
            await clock.advance(9.5)
            assert len([sent for sent in exchange.sends if sent.body]) == expected


async def _silence() -> AsyncIterator[str]:
    await anyio.sleep(1000)
    yield "never"


# The client --------------------------------------------------------------------------------------


async def test_when_the_client_leaves_the_content_is_closed_then_its_handler_called() -> None:
    order: list[str] = []

    async def source() -> AsyncIterator[dict[str, str]]:
        try:
            async for item in ticking():
                yield item
        finally:
            order.append("closed")

    async def handler(message: Any) -> None:
        order.append(message["type"])

    app = EventSourceResponse(
        source(),
        client_close_handler_callable=handler,
        background=BackgroundTask(lambda: order.append("background")),
    )
    async with Client(app) as client, client.open("GET", "/") as exchange:
        await exchange.event()
        await exchange.leave()
        await exchange.finished()
    assert order == ["closed", "http.disconnect", "background"]
    assert app.active is False


async def test_the_handler_is_not_called_when_the_client_stays() -> None:
    called: list[Any] = []

    async def handler(message: Any) -> None:
        called.append(message)

    await fetch(EventSourceResponse(["x"], client_close_handler_callable=handler))
    assert called == []


async def test_a_client_that_takes_nothing_is_a_send_timeout(clock: Clock) -> None:
    async def source() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 10_000

    app = EventSourceResponse(source(), send_timeout=2)
    async with Client(app, raise_app_exceptions=False) as client:
        async with client.open("GET", "/") as exchange:
            await wait_until(lambda: exchange.blocked)
            await clock.advance(3)
            outcome = await exchange.finished()
    assert isinstance(outcome.error, SendTimeoutError)


async def test_without_a_send_timeout_the_applications_holds(clock: Clock) -> None:
    async def source() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 10_000

    app = FastAPI()
    app.state.stream_options = StreamOptions(send_timeout=4)
    app.add_api_route("/", lambda: EventSourceResponse(source()))
    async with Client(app) as client, client.open("GET", "/") as exchange:
        await wait_until(lambda: exchange.blocked)
        await clock.advance(5)
        outcome = await exchange.finished()
    assert (outcome.truncated, outcome.error) == (True, None)


@pytest.mark.parametrize("method", ["HEAD", "head"])
async def test_head_runs_nothing(method: str) -> None:
    async def sender() -> None:
        raise AssertionError("HEAD runs nothing")

    done: list[str] = []
    app = EventSourceResponse(
        ticking(),
        data_sender_callable=sender,
        background=BackgroundTask(lambda: done.append("background")),
    )
    got = await fetch(app, method=method)
    assert (got.status, got.body, done) == (200, b"", ["background"])


# A task that feeds the content -------------------------------------------------------------------


async def test_a_sender_feeds_the_content() -> None:
    send, receive = anyio.create_memory_object_stream[Any](0)

    async def sender() -> None:
        async with send:
            for number in range(3):
                await send.send({"data": number})

    got = await fetch(EventSourceResponse(receive, data_sender_callable=sender))
    assert got.body == b"data: 0\r\n\r\ndata: 1\r\n\r\ndata: 2\r\n\r\n"


async def test_a_sender_is_cancelled_before_its_channel_is_closed() -> None:
    send, receive = anyio.create_memory_object_stream[Any](0)
    exits: list[type[BaseException]] = []

    async def sender() -> None:
        try:
            async with send:
                while True:
                    await send.send(b"x" * 10_000)
        except BaseException as exc:
            exits.append(type(exc))
            raise

    app = EventSourceResponse(receive, data_sender_callable=sender)
    async with Client(app) as client, client.open("GET", "/") as exchange:
        await wait_until(lambda: exchange.blocked)
        await settle()
        await exchange.leave()
        assert (await exchange.finished()).error is None
    assert exits == [anyio.get_cancelled_exc_class()]
    with pytest.raises(anyio.ClosedResourceError):
        receive.receive_nowait()


async def test_content_runs_in_one_thread_beside_a_sender_if_it_is_pinned() -> None:
    pinned: list[None] = []

    class Content:
        threaded = closed = False

        def pin_thread(self) -> None:
            pinned.append(None)

        async def run(self, sink: Sink, loop: Loop) -> None:
            sink.put("all")

        async def close(self) -> None:
            pass

    class Response(EventSourceResponse):
        def _open(self, scope: Scope) -> Source:
            return Content()

    app = Starlette(routes=[Mount("/", Response((), data_sender_callable=anyio.sleep_forever))])
    app.state.stream_options = StreamOptions(pin_thread=True)
    assert (await fetch(app)).body == b"data: all\r\n\r\n"
    assert pinned == [None]


async def test_content_is_closed_though_its_sender_does_not_end() -> None:
    closed, release = anyio.Event(), anyio.Event()

    async def stubborn() -> None:
        with anyio.CancelScope(shield=True):
            await release.wait()

    app = EventSourceResponse(ticking(closed), data_sender_callable=stubborn, cleanup_timeout=0.01)
    async with Client(app) as client, client.open("GET", "/") as exchange:
        await exchange.event()
        await exchange.leave()
        with anyio.move_on_after(10):
            await closed.wait()
        in_time = closed.is_set()
        release.set()
        await exchange.finished()
    assert in_time


async def test_a_sender_that_fails_is_the_contents_error() -> None:
    send, receive = anyio.create_memory_object_stream[Any](0)

    async def sender() -> None:
        async with send:
            await send.send({"data": "first"})
            raise RuntimeError("the broker is gone")

    app = EventSourceResponse(receive, data_sender_callable=sender)
    async with Client(app) as client, client.open("GET", "/") as exchange:
        first = await exchange.event()
        assert first is not None
        assert first.data == "first"
        error = await exchange.event()
        assert error is not None
        assert json.loads(error.data)["error"]["code"] == "stream_failed"
        with pytest.raises(Truncated) as caught:
            await exchange.event()
    assert isinstance(caught.value.__cause__, RuntimeError)


# The server stops --------------------------------------------------------------------------------


async def test_at_shutdown_the_content_is_told_and_may_say_its_last_words() -> None:
    told = anyio.Event()

    async def source() -> AsyncIterator[dict[str, str]]:
        yield {"data": "first"}
        await told.wait()
        yield {"event": "bye", "data": "last"}

    app = EventSourceResponse(source(), shutdown_event=told, shutdown_grace_period=5)
    async with Client(app) as client, client.open("GET", "/") as exchange:
        await exchange.event()
        async with anyio.create_task_group() as group:
            group.start_soon(drain)
            rest = await exchange.read_all()
    assert rest.startswith(b"event: bye\r\ndata: last\r\n\r\nevent: farewell\r\nretry: ")


@pytest.mark.parametrize("from_thread", [False, True])
async def test_the_application_can_say_that_the_server_stops(from_thread: bool) -> None:
    told, done = anyio.Event(), anyio.Event()
    app = EventSourceResponse(ticking(done), shutdown_event=told)
    async with Client(app) as client, client.open("GET", "/") as exchange:
        await exchange.event()
        if from_thread:
            await anyio.to_thread.run_sync(AppStatus.handle_exit)
        else:
            AppStatus.should_exit = True
        rest = await exchange.read_all()
    assert b"event: farewell\r\n" in rest
    assert told.is_set()
    assert done.is_set()


async def test_a_stream_that_begins_while_the_server_stops_ends_at_once() -> None:
    AppStatus.should_exit = True
    got = await fetch(EventSourceResponse(ticking()))
    assert got.body.endswith(b"\r\n\r\n")
    assert b"event: farewell\r\n" in got.body
    AppStatus.should_exit = False
    assert (await fetch(tailrace.EventSourceResponse(["x"]))).body == b"data: x\n\n"


async def test_with_the_drain_off_a_stream_goes_on_until_the_application_says() -> None:
    AppStatus.disable_automatic_graceful_drain()
    told = anyio.Event()
    app = EventSourceResponse(ticking(), shutdown_event=told)
    async with Client(app) as client, client.open("GET", "/") as exchange:
        await exchange.event()
        async with anyio.create_task_group() as group:
            group.start_soon(drain)
            await settle()
            AppStatus.handle_exit()  # does nothing while the drain is off
            await settle()
            assert not told.is_set()
            AppStatus.should_exit = True
            rest = await exchange.read_all()
    assert b"event: farewell\r\n" in rest
    assert told.is_set()


def test_compression_is_not_the_responses_to_choose() -> None:
    with pytest.raises(NotImplementedError):
        EventSourceResponse([]).enable_compression()
