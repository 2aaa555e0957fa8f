from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, HTTPException
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from tailrace import Streams
from tailrace.errors import (
    OffsetGone,
    Overloaded,
    StoreFull,
    StoreUnavailable,
    StreamError,
    StreamNotFound,
    TailraceError,
    TooLarge,
)
from tailrace.testing import Client

pytestmark = pytest.mark.anyio


async def ask(app: Any, target: str) -> tuple[int, Any]:
    async with (
        Client(app, lifespan=True, raise_app_exceptions=False) as client,
        client.open("GET", target) as exchange,
    ):
        start = await exchange.response()
        body = await exchange.read_all()
        is_json = "json" in start.headers["content-type"]
        return start.status, json.loads(body) if is_json else body


async def build() -> AsyncIterator[int]:
    yield 1


def example(**options: Any) -> tuple[FastAPI, Streams]:
    streams = Streams("memory://")
    app = FastAPI(lifespan=streams.lifespan, **options)

    @app.get("/append/{path:path}")
    async def append(path: str) -> str:
        return await streams.append(path, {"n": 1})

    @app.get("/run/{path:path}")
    async def run(path: str, request: Request) -> Response:
        return (await streams.run(path, build())).response(request)

    @app.get("/read/{path:path}")
    async def read(path: str) -> list[Any]:
        return [message.data async for message in streams.read(path)]

    @app.get("/closed")
    async def closed() -> None:
        await streams.append("closed", 1)
        await streams.close("closed")
        await streams.append("closed", 2)

    @app.get("/taken")
    async def taken(request: Request) -> Response:
        await streams.create("taken", content_type="text/plain")
        return (await streams.run("taken", build())).response(request)

    return app, streams


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        ("/append/%2e%2e", 400, "invalid_request"),
        ("/append/%01", 400, "invalid_request"),
        (f"/run/{'x' * 2000}", 400, "invalid_request"),
        ("/run/__ds/x", 400, "invalid_request"),
        ("/read/missing", 404, "stream_not_found"),
        ("/closed", 409, "stream_closed"),
        ("/taken", 409, "stream_exists"),
    ],
)
async def test_an_error_that_an_endpoint_lets_pass_is_its_own_status(
    target: str, status: int, code: str
) -> None:
    app, _ = example()
    got, problem = await ask(app, target)
    assert (got, problem["status"], problem["code"]) == (status, status, code)
    assert problem["detail"]


ERRORS = [
    TooLarge(10),
    OffsetGone("0", "1"),
    Overloaded(10),
    StoreUnavailable("sqlite:///secret.db", "is gone"),
    StoreFull("sqlite:///secret.db", "is full"),
]


def raising(app: Any, error: Exception) -> Any:
    async def fail() -> None:
        raise error

    app.get("/fail")(fail)
    return app


@pytest.mark.parametrize("error", ERRORS)
async def test_each_has_its_status_and_tells_no_secret(
    error: TailraceError, caplog: pytest.LogCaptureFixture
) -> None:
    app, _ = example()
    status, problem = await ask(raising(app, error), "/fail")
    assert (status, problem["code"]) == (error.status, error.code)
    assert "secret" not in json.dumps(problem)
    logged = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(logged) == (1 if error.status >= 500 else 0)
    assert all("GET /fail" in record.getMessage() for record in logged)


async def test_it_holds_behind_any_middleware() -> None:
    class Passing(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Any:
            return await call_next(request)

    app, _ = example(middleware=[Middleware(Passing)])
    assert (await ask(app, "/read/missing"))[0] == 404


async def test_it_holds_in_an_application_that_is_mounted() -> None:
    app, _ = example()
    app.mount("/inside", raising(FastAPI(), StreamNotFound("a")))
    app.mount("/starlette", Starlette(routes=[Mount("/deep", raising(FastAPI(), TooLarge(1)))]))
    assert (await ask(app, "/inside/fail"))[0] == 404
    assert (await ask(app, "/starlette/deep/fail"))[0] == 413


async def test_it_holds_for_an_application_of_starlette() -> None:
    streams = Streams("memory://")

    async def fail(request: Request) -> Response:
        await streams.head("missing")
        raise AssertionError

    app = Starlette(routes=[Route("/fail", fail)], lifespan=streams.lifespan)
    assert (await ask(app, "/fail"))[0] == 404


async def test_it_holds_in_a_lifespan_of_ones_own_and_of_a_router() -> None:
    first, second = Streams("memory://"), Streams("memory://")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with first.lifespan(app):
            yield

    app = FastAPI(lifespan=lifespan)
    app.include_router(APIRouter(lifespan=second.lifespan))
    assert (await ask(raising(app, StreamNotFound("a")), "/fail"))[0] == 404


@pytest.mark.parametrize("kind", [TailraceError, StreamError, StreamNotFound])
async def test_a_handler_of_the_applications_own_goes_before(kind: type[Exception]) -> None:
    app, _ = example()

    @app.exception_handler(kind)
    async def handle(request: Request, error: Exception) -> Response:
        return JSONResponse({"mine": True}, 418)

    assert await ask(app, "/read/missing") == (418, {"mine": True})


async def test_an_error_of_http_is_as_it_was() -> None:
    app, _ = example()
    status, body = await ask(raising(app, HTTPException(404, "no")), "/fail")
    assert (status, body) == (404, {"detail": "no"})


async def test_an_error_of_the_applications_own_is_as_it_was() -> None:
    app, _ = example()
    assert await ask(raising(app, LookupError()), "/fail") == (500, b"Internal Server Error")


async def test_what_is_raised_after_the_head_is_not_answered() -> None:
    app, _ = example()

    @app.get("/late")
    async def late() -> Response:
        class Late(Response):
            async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
                await send({"type": "http.response.start", "status": 200, "headers": []})
                raise StreamNotFound("a")

        return Late()

    async with (
        Client(app, lifespan=True, raise_app_exceptions=False) as client,
        client.open("GET", "/late") as exchange,
    ):
        assert (await exchange.response()).status == 200
        assert not (await exchange.finished()).complete


async def test_a_second_lifespan_changes_nothing_more() -> None:
    app, _ = example()
    for _ in range(2):
        assert (await ask(app, "/read/missing"))[0] == 404
    stack = app.router.middleware_stack
    async with Streams("memory://").lifespan(app):
        assert app.router.middleware_stack is stack
