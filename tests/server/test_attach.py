"""`tailrace.attach`: what is written, what is refused, and what becomes of a stalled client."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailrace.connection import Frame, leads_to
from tailrace.testing import Client
from tests.rawhttp import Connection
from tests.server.conftest import APP, OURS, Site
from tests.server.test_clients import until
from tests.servers import serve


@pytest.fixture(params=OURS)
def own(request: pytest.FixtureRequest) -> Iterator[Site]:
    """A server for one test: who is attached is the process's own."""
    with serve(APP, request.param, log_level="info") as server:
        yield Site(server)


Attach = Callable[..., Connection]


@pytest.fixture
def attached(own: Site) -> Iterator[Attach]:
    """Connects and attaches a client, each time it is called."""
    with contextlib.ExitStack() as stack:

        def attach(**options: Any) -> Connection:
            connection = stack.enter_context(own.connect(**options))
            connection.send("/attach")
            connection.read_head()
            assert connection.read_chunk() == b": hello\n\n"
            return connection

        yield attach


def test_each_client_gets_each_message_once_and_in_order_and_then_the_end(
    own: Site, attached: Attach
) -> None:
    clients = [attached() for _ in range(50)]
    assert own.ask("/publish", count=100)["took"] == [50] * 100
    own.ask("/release")
    for client in clients:
        messages = b"".join(iter(client.read_chunk, b""))  # type: ignore[arg-type] # not cut
        assert messages == b"".join(b"data: %d \n\n" % at for at in range(100)) + b"the end"
        client.send("/hello")  # the connection is an ordinary one again
        assert client.read_head().status == 200


def test_a_client_that_stops_reading_is_refused_more_and_loses_nothing_it_was_given(
    own: Site, attached: Attach
) -> None:
    stalled, reading = attached(receive_buffer=4096), attached()
    took: list[int] = []
    got = bytearray()
    while len(took) < 3000 and (not took or took[-1] == 2):
        said = own.ask("/publish", size=20_000)
        took += said["took"]
        chunk = reading.read_chunk()
        assert chunk is not None
        got += chunk
    assert took[-1] == 1
    assert max(said["waiting"]) <= 64 * 1024
    own.ask("/release")
    body = b"".join(iter(stalled.read_chunk, b""))  # type: ignore[arg-type] # not cut
    message = b"data: 0 " + b"x" * 20_000 + b"\n\n"
    assert body == message * (len(took) - 1) + b"the end"
    assert got == message * len(took)


def test_a_message_larger_than_the_bound_goes_to_a_client_with_nothing_waiting(
    own: Site, attached: Attach
) -> None:
    client = attached()
    assert own.ask("/publish", size=5_000_000)["took"] == [1]
    chunk = client.read_chunk()
    assert chunk is not None
    assert len(chunk) == 5_000_010


def test_a_client_that_has_left_is_closed_and_takes_nothing(own: Site, attached: Attach) -> None:
    staying, leaving = attached(), attached()
    leaving.reset()
    said = until(lambda: own.ask("/publish"), lambda said: said["took"] == [1])
    assert said["took"] == [1]
    assert staying.read_chunk() == b"data: 0 \n\n"


def test_a_response_with_a_content_length_is_refused(own: Site) -> None:
    with own.connect() as connection:
        connection.send("/attach?length=16")
        reply = connection.read_reply()
    assert (reply.body, reply.complete) == (b": hello\n\nrefused", True)


def test_head_is_refused(own: Site) -> None:
    with own.connect() as connection:
        connection.send("/attach", method="HEAD")
        assert connection.read_reply().body == b""
        connection.send("/hello")
        assert connection.read_reply().body == b"hello"


def test_an_ordinary_message_while_attached_is_refused_and_cuts_the_response(own: Site) -> None:
    with own.connect() as connection:
        connection.send("/attach?send_while_attached=1")
        reply = connection.read_reply()
    assert (reply.body, reply.complete) == (b": hello\n\n", False)


def test_a_compressing_middleware_sees_every_byte() -> None:
    with serve("tests.server.app:gzipped", "uvicorn-tailrace", log_level="info") as server:
        with Site(server).connect() as connection:
            connection.send("/attach?type=text/plain", headers={"accept-encoding": "gzip"})
            reply = connection.read_reply()
        assert reply.headers["content-encoding"] == "gzip"
        assert reply.complete
        assert Site(server).get("/attach").body.endswith(b"refused")


def test_a_frame_without_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="end the response"):
        Frame(b"")


# The way from a response to the server, walked


class Server:
    """Stands for the server's own end of the way."""

    async def send(self, message: Message) -> None: ...


class Looks(Response):
    """A response that only looks whether its `send` leads to the server."""

    found: bool | None = None

    def __init__(self, server: Server) -> None:
        self.server = server
        super().__init__(b"")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        Looks.found = leads_to(send, self.server.send)
        await super().__call__(scope, receive, send)


async def walked(*middlewares: Any) -> bool | None:
    """Whether the way is open from an endpoint of FastAPI through these middlewares."""
    server = Server()
    app = FastAPI()
    for middleware in middlewares:
        app.add_middleware(middleware)

    @app.get("/")
    async def endpoint() -> Response:
        return Looks(server)

    async def outermost(scope: Scope, receive: Receive, send: Send) -> None:
        async def carry(message: Message) -> None:
            await send(message)

        server.send = carry  # type: ignore[method-assign] # the client's end takes its place
        await app(scope, receive, carry)

    Looks.found = None
    async with Client(outermost) as client:
        async with client.open("GET", "/") as exchange:
            await exchange.read_all()
    return Looks.found


@pytest.mark.anyio
async def test_fastapis_own_layers_are_looked_through() -> None:
    assert await walked()


@pytest.mark.anyio
async def test_cors_changes_headers_only() -> None:
    assert await walked(functools.partial(CORSMiddleware, allow_origins=["*"]))


@pytest.mark.anyio
@pytest.mark.parametrize("middleware", [GZipMiddleware, BaseHTTPMiddleware])
async def test_what_rewrites_or_recreates_is_not_looked_through(middleware: Any) -> None:
    if middleware is BaseHTTPMiddleware:
        middleware = functools.partial(BaseHTTPMiddleware, dispatch=pass_on)
    assert not await walked(middleware)


async def pass_on(request: Request, call_next: Any) -> Any:
    return await call_next(request)


class CountsBytes:
    """A middleware of a user: unknown, so it must see every byte."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted(message: Message) -> None:
            await send(message)

        await self.app(scope, receive, counted)


class InDisguise(CountsBytes):
    """The same, with the name and the module of the function that it wraps."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        @functools.wraps(send)
        async def counted(message: Message) -> None:
            await send(message)

        await self.app(scope, receive, counted)


@pytest.mark.anyio
@pytest.mark.parametrize("middleware", [CountsBytes, InDisguise])
async def test_what_is_not_known_is_not_looked_through(middleware: Any) -> None:
    assert not await walked(middleware)
