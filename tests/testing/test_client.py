"""The client against plain Starlette, FastAPI and hand-written applications."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from fastapi import FastAPI
from fastapi import Request as FastAPIRequest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tailrace.testing import Client, Clock, SourceProbe, Truncated, settle, wait_until

pytestmark = pytest.mark.anyio


def answering(*bodies: bytes, complete: bool = True) -> Any:
    """An application that sends these bodies."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for body in bodies:
            await send({"type": "http.response.body", "body": body, "more_body": True})
        if complete:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    return app


async def echo_scope(scope: Scope, receive: Receive, send: Send) -> None:
    text = repr({name: scope[name] for name in sorted(scope) if name != "extensions"})
    await PlainTextResponse(text)(scope, receive, send)


async def test_the_first_chunk_arrives_while_the_application_still_runs() -> None:
    go_on = anyio.Event()

    async def numbers() -> AsyncIterator[bytes]:
        yield b"one"
        await go_on.wait()
        yield b"two"

    async with (
        Client(StreamingResponse(numbers())) as client,
        client.open("GET", "/") as exchange,
    ):
        assert (await exchange.response()).status == 200
        assert await exchange.read() == b"one"
        go_on.set()
        assert await exchange.read_all() == b"two"
        assert (await exchange.finished()).complete


async def test_a_sync_generator_in_a_thread_arrives_live() -> None:
    go_on = threading.Event()

    def numbers() -> Iterator[bytes]:
        yield b"one"
        go_on.wait(10)
        yield b"two"

    async with (
        Client(StreamingResponse(numbers())) as client,
        client.open("GET", "/") as exchange,
    ):
        assert await exchange.read() == b"one"
        await settle()
        assert len(exchange.sends) == 2
        go_on.set()
        assert await exchange.read_all() == b"two"


async def test_a_fastapi_endpoint_gets_method_path_query_headers_and_body() -> None:
    app = FastAPI()

    @app.post("/a b/{name}")
    async def endpoint(name: str, q: int, request: FastAPIRequest) -> dict[str, Any]:
        body = await request.body()
        return {"name": name, "q": q, "x": request.headers["x-one"], "body": body.decode()}

    async with (
        Client(app) as client,
        client.open(
            "POST", "/a%20b/c?q=3", headers={"X-One": "1"}, body=[b"he", b"llo"]
        ) as exchange,
    ):
        start = await exchange.response()
        assert start.headers["Content-Type"] == "application/json"
        assert await exchange.read_all() == b'{"name":"c","q":3,"x":"1","body":"hello"}'


async def test_the_scope_is_complete_and_says_what_was_asked_for() -> None:
    async with (
        Client(echo_scope) as client,
        client.open(
            "GET", "/x%C3%A9?y=%20", http_version="1.0", spec_version="2.4", headers=[("A", "b")]
        ) as exchange,
    ):
        text = (await exchange.read_all()).decode()
    assert "'path': '/xé'" in text
    assert "'raw_path': b'/x%C3%A9'" in text
    assert "'query_string': b'y=%20'" in text
    assert "'http_version': '1.0'" in text
    assert "'asgi': {'version': '3.0', 'spec_version': '2.4'}" in text
    assert "'headers': [(b'host', b'testserver'), (b'a', b'b')]" in text


async def test_two_requests_are_answered_side_by_side() -> None:
    turn = anyio.Event()

    async def numbers() -> AsyncIterator[bytes]:
        yield b"1"
        await turn.wait()

    async def endpoint(request: Any) -> StreamingResponse:
        return StreamingResponse(numbers())

    app = Starlette(routes=[Route("/", endpoint)])
    async with (
        Client(app) as client,
        client.open("GET", "/") as one,
        client.open("GET", "/") as two,
    ):
        assert await one.read() == await two.read() == b"1"
        turn.set()
        assert await one.read_all() == await two.read_all() == b""


async def test_leaving_tells_the_application_through_receive() -> None:
    heard: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        heard.append((await receive())["type"])
        heard.append((await receive())["type"])

    async with Client(app) as client, client.open("GET", "/") as exchange:
        await settle()
        assert heard == ["http.request"]
        await exchange.leave()
        assert not (await exchange.finished()).complete
        assert heard == ["http.request", "http.disconnect"]


async def test_a_complete_response_ends_the_exchange_for_receive_too() -> None:
    heard: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await answering(b"x")(scope, receive, send)
        heard.append((await receive())["type"])

    async with Client(app) as client, client.open("GET", "/") as exchange:
        await exchange.finished()
    assert heard == ["http.disconnect"]


async def test_a_half_closed_client_still_reads() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        assert (await receive())["type"] == "http.disconnect"
        await answering(b"still here")(scope, receive, send)

    async with Client(app) as client, client.open("GET", "/") as exchange:
        await exchange.half_close()
        assert await exchange.read_all() == b"still here"
        assert not exchange.left


@pytest.mark.parametrize("spec_version", ["2.3", "2.4"])
async def test_starlette_closes_its_source_when_the_client_leaves(spec_version: str) -> None:
    probe = SourceProbe()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1024
            await anyio.lowlevel.checkpoint()

    app = StreamingResponse(probe.watch(endless()))
    async with (
        Client(app) as client,
        client.open("GET", "/", spec_version=spec_version) as exchange,
    ):
        await exchange.read()
        await exchange.leave()
        outcome = await exchange.finished()
    assert outcome.truncated
    assert isinstance(outcome.error, ClientDisconnect) is (spec_version == "2.4")
    assert probe.items > 0


async def test_the_news_that_the_client_left_is_not_raised_in_the_test() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1024

    async with (
        Client(StreamingResponse(endless())) as client,
        client.open("GET", "/", spec_version="2.4") as exchange,
    ):
        await exchange.read()


async def test_what_is_sent_after_the_client_left_is_dropped_below_spec_2_4() -> None:
    app_goes_on = anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await app_goes_on.wait()
        await answering(b"x", b"y")(scope, receive, send)

    async with Client(app) as client, client.open("GET", "/") as exchange:
        await exchange.leave()
        app_goes_on.set()
        outcome = await exchange.finished()
        assert outcome.complete
        assert exchange.sends == []
        assert exchange.dropped == 4
        assert await exchange.read() == b""
        with pytest.raises(Truncated, match="client left"):
            await exchange.response()


async def test_sending_raises_an_os_error_after_the_client_left_from_spec_2_4_on() -> None:
    caught: list[OSError] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        except OSError as error:
            caught.append(error)

    async with Client(app) as client, client.open("GET", "/", spec_version="2.4") as exchange:
        await exchange.leave()
        await exchange.finished()
    assert len(caught) == 1


async def test_what_send_does_after_leaving_can_be_chosen_apart_from_the_version() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        await answering(b"x")(scope, receive, send)

    async with Client(app) as client:
        async with client.open("GET", "/", after_leave="raise") as exchange:
            await exchange.leave()
            assert isinstance((await exchange.finished()).error, OSError)
        async with client.open("GET", "/", spec_version="2.4", after_leave="drop") as exchange:
            await exchange.leave()
            assert (await exchange.finished()).complete


async def test_an_application_that_fails_before_its_response_raises_in_the_test() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError("early")

    async with Client(app) as client, client.open("GET", "/") as exchange:
        with pytest.raises(ZeroDivisionError, match="early"):
            await exchange.response()


async def test_an_error_that_the_test_did_not_see_is_raised_at_the_end_of_the_block() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answering(b"x")(scope, receive, send)
        raise ZeroDivisionError("late")

    async with Client(app) as client:
        with pytest.raises(ZeroDivisionError, match="late"):
            async with client.open("GET", "/") as exchange:
                assert await exchange.read_all() == b"x"


async def test_a_failing_test_is_not_hidden_by_the_error_of_the_application() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError

    with pytest.raises(KeyError, match="of the test"):
        async with Client(app) as client, client.open("GET", "/"):
            raise KeyError("of the test")


async def test_errors_can_be_answered_with_500_as_a_server_would() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError

    async with (
        Client(app, raise_app_exceptions=False) as client,
        client.open("GET", "/") as exchange,
    ):
        assert (await exchange.response()).status == 500
        assert await exchange.read_all() == b"Internal Server Error"
        assert isinstance((await exchange.finished()).error, ZeroDivisionError)


async def test_an_application_that_answers_nothing_is_told_from_one_that_does() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        return

    async with Client(app) as client, client.open("GET", "/") as exchange:
        with pytest.raises(Truncated, match="before the response had begun"):
            await exchange.response()


async def test_finished_waits_for_background_tasks_and_reading_does_not() -> None:
    go_on = anyio.Event()
    app = PlainTextResponse("done", background=BackgroundTask(go_on.wait))
    async with Client(app) as client, client.open("GET", "/") as exchange:
        assert await exchange.read_all() == b"done"
        ended = anyio.Event()

        async def watch() -> None:
            await exchange.finished()
            ended.set()

        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            await settle()
            assert not ended.is_set()
            go_on.set()
            await ended.wait()


async def test_an_application_that_ignores_the_client_is_cancelled_at_the_end() -> None:
    cancelled: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append(True)

    async with Client(app) as client, client.open("GET", "/"):
        await settle()
    assert cancelled == [True]


async def test_an_application_that_ends_by_itself_is_not_cancelled_at_the_end() -> None:
    steps: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        steps.append("told")
        await anyio.to_thread.run_sync(lambda: None)
        await settle()
        steps.append("cleaned up")

    async with Client(app) as client, client.open("GET", "/") as exchange:
        await exchange.leave()
        await wait_until(lambda: "cleaned up" in steps)
    assert steps == ["told", "cleaned up"]


async def test_the_lifespan_runs_around_the_block_and_its_state_reaches_requests() -> None:
    steps: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
        steps.append("up")
        yield {"colour": "green"}
        steps.append("down")

    async def endpoint(request: Any) -> PlainTextResponse:
        steps.append(request.state.colour)
        return PlainTextResponse("")

    app = Starlette(routes=[Route("/", endpoint)], lifespan=lifespan)
    async with Client(app, lifespan=True) as client, client.open("GET", "/") as exchange:
        await exchange.read_all()
    assert steps == ["up", "green", "down"]


async def test_a_startup_that_fails_raises_where_the_client_is_opened() -> None:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        raise ZeroDivisionError("no database")
        yield

    with pytest.raises(ZeroDivisionError, match="no database"):
        async with Client(Starlette(lifespan=lifespan), lifespan=True):
            pytest.fail("the block must not run")


async def test_a_startup_that_says_it_failed_raises_with_its_message() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(RuntimeError, match="startup failed: no database"):
        async with Client(app, lifespan=True):
            pytest.fail("the block must not run")


async def test_a_shutdown_that_fails_raises_at_the_end_of_the_block() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        raise ZeroDivisionError("in shutdown")

    with pytest.raises(ZeroDivisionError, match="in shutdown"):
        async with Client(app, lifespan=True):
            pass


async def test_an_application_without_lifespan_is_named_as_such() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        return

    with pytest.raises(RuntimeError, match="before its startup was complete"):
        async with Client(app, lifespan=True):
            pytest.fail("the block must not run")


async def test_sends_tell_each_message_and_when_it_came(clock: Clock) -> None:
    async def ticks() -> AsyncIterator[bytes]:
        for number in range(3):
            yield b"%d" % number
            await anyio.sleep(0.1)

    async with (
        Client(StreamingResponse(ticks())) as client,
        client.open("GET", "/") as exchange,
    ):
        await clock.advance(1)
        told = [(sent.time, sent.body) for sent in exchange.sends]
    assert told == [(0.0, b""), (0.0, b"0"), (0.1, b"1"), (0.2, b"2"), (0.3, b"")]


async def test_the_client_must_be_open() -> None:
    with pytest.raises(RuntimeError, match="async with Client"):
        Client(echo_scope).open("GET", "/")


@pytest.mark.parametrize("setting", [{"rate": 0}, {"rate": -1.0}, {"leave_at": -1}])
async def test_a_setting_out_of_its_range_is_refused(setting: dict[str, Any]) -> None:
    async with Client(echo_scope) as client:
        with pytest.raises(ValueError, match=f"{next(iter(setting))}=.* is out of range"):
            client.open("GET", "/", **setting)


async def test_cancelling_a_test_ends_the_application_as_well() -> None:
    ended: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    with anyio.CancelScope() as scope:
        async with Client(app) as client, client.open("GET", "/"):
            await settle()
            scope.cancel()
            await anyio.sleep_forever()
    assert ended == [True]
    assert scope.cancelled_caught
