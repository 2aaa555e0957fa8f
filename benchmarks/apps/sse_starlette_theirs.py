"""sse-starlette in FastAPI, used as its documentation shows."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from fastapi import FastAPI
from sse_starlette import EventSourceResponse

from benchmarks.apps import sources
from benchmarks.apps.prices import Ticker, plain_prices, prices

app = FastAPI()
ticker = Ticker()


@app.get("/events")
async def typed_events(count: int) -> EventSourceResponse:
    async def events() -> AsyncIterator[dict[str, str]]:
        for price in prices(count):
            yield {"data": price.model_dump_json()}

    return EventSourceResponse(events())


@app.get("/events-untyped")
async def untyped_events(count: int) -> EventSourceResponse:
    async def events() -> AsyncIterator[dict[str, str]]:
        for price in plain_prices(count):
            yield {"data": json.dumps(price)}

    return EventSourceResponse(events())


@app.get("/ticker")
async def live_events() -> EventSourceResponse:
    async def events() -> AsyncIterator[dict[str, str]]:
        async for price in ticker.subscribe():
            yield {"data": price.model_dump_json()}

    return EventSourceResponse(events())


@app.post("/publish", status_code=204)
async def publish() -> None:
    ticker.publish()


@app.get("/idle")
async def idle() -> EventSourceResponse:
    async def events() -> AsyncIterator[dict[str, str]]:
        yield {"data": '{"hello":"world"}'}
        async for _ in sources.never():
            yield {}

    return EventSourceResponse(events())
