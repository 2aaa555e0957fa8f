"""The application behind proxies: streams of each format, and when their sources were closed.

`/{kind}/{format}`: kind is `ticks` (a line at once, and then one every half second), `fails` (a
line, another one half a second later, and then the source fails), or `silent` (one line, and then
nothing). `/left/{name}` tells when the source of that name was closed.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
from fastapi import FastAPI, Request, Response

from tailrace import (
    EventSourceResponse,
    JSONLinesResponse,
    StreamingResponse,
    StreamOptions,
    Streams,
)
from tailrace.protocol import ProtocolOptions

streams = Streams("memory://")
app = FastAPI(lifespan=streams.lifespan)
app.include_router(streams.router(ProtocolOptions(shared=True, forks=True)), prefix="/v1/stream")

PAUSE = 0.5
ended: dict[str, float] = {}
"""When the source of each name was closed, in seconds of the machine's monotonic clock."""


async def source(kind: str, name: str) -> AsyncIterator[str]:
    try:
        number = 0
        while kind != "fails" or number < 2:
            number += 1
            yield f"line {number}\n"
            await anyio.sleep(PAUSE if kind != "silent" else 3600)
        raise ValueError("the source fails")
    finally:
        ended[name] = time.monotonic()


@app.get("/left/{name}")
async def left(name: str) -> Any:
    return ended.get(name)


@app.post("/refused")
async def refused() -> Response:
    """Refuses an upload without reading it."""
    return Response("too much\n", 413, media_type="text/plain")


@app.get("/run/{name}")
async def run(name: str, request: Request) -> Any:
    return (await streams.run(name, source("ticks", name))).response(request)


@app.get("/{kind}/{form}")
async def stream(kind: str, form: str, name: str = "") -> Any:
    items = source(kind, name)
    # One second instead of 15, so that no test has to wait long for a heartbeat.
    options = StreamOptions(heartbeat=1.0, compress=form == "compressed")
    if form == "events":
        return EventSourceResponse(items, options=options)
    if form == "lines":
        return JSONLinesResponse(items, options=options)
    return StreamingResponse(items, media_type="text/plain", options=options)
