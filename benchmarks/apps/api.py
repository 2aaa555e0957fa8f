"""The FastAPI application of the rows with `yield` endpoints, for any set of response classes."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Any

from fastapi import FastAPI
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.responses import StreamingResponse

from benchmarks.apps import sources
from benchmarks.apps.prices import Price, Ticker, plain_prices, prices

ticker = Ticker()


async def numbers_async(count: int) -> AsyncIterable[str]:
    for i in range(count):
        yield f"Number {i}\n"


async def first() -> AsyncIterable[bytes]:
    async for chunk in sources.first_then_wait():
        yield chunk


async def models(count: int) -> AsyncIterable[Price]:
    for price in prices(count):
        yield price


async def dicts(count: int):  # type: ignore[no-untyped-def] # the case: no annotation
    for price in plain_prices(count):
        yield price


async def live() -> AsyncIterable[Price]:
    async for price in ticker.subscribe():
        yield price


async def idle() -> AsyncIterable[dict[str, str]]:
    yield {"hello": "world"}
    async for _ in sources.never():
        yield {}


async def publish() -> None:
    ticker.publish()


def build(
    *,
    streaming: type[StreamingResponse],
    events: type[Response],
    lines: type[Response] | None,
    route_class: type[APIRoute] = APIRoute,
) -> FastAPI:
    """An application of `yield` endpoints.

    Args:
        streaming: The response class of the raw endpoints.
        events: The response class of the SSE endpoints.
        lines: The response class of the JSON Lines endpoints. None sets no class: then FastAPI uses
            its own.
        route_class: The class of the routes.
    """
    app = FastAPI()
    app.router.route_class = route_class
    app.get("/numbers-async", response_class=streaming)(numbers_async)
    app.get("/first", response_class=streaming)(first)
    app.get("/events", response_class=events)(models)
    app.get("/events-untyped", response_class=events)(dicts)
    app.get("/ticker", response_class=events)(live)
    app.get("/idle", response_class=events)(idle)
    app.post("/publish", status_code=204)(publish)
    named: dict[str, Any] = {} if lines is None else {"response_class": lines}
    app.get("/lines", **named)(models)
    app.get("/lines-untyped", **named)(dicts)
    return app
