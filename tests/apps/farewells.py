"""The application of servers that are stopped: event streams, and finite and endless bodies."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator

import anyio
from fastapi import FastAPI, Request, Response

from tailrace import (
    Event,
    EventSourceResponse,
    StreamingResponse,
    StreamOptions,
    Streams,
    shutdown_event,
)

streams = Streams("memory://")
app = FastAPI(lifespan=streams.lifespan)
_OWN_WORDS = StreamOptions(shutdown_grace=1)


async def _ticks() -> AsyncIterator[str]:
    while True:
        yield "tick"
        await anyio.sleep(0.1)


@app.get("/events")
async def events() -> EventSourceResponse:
    return EventSourceResponse(_ticks())


@app.get("/blocked")
def blocked() -> EventSourceResponse:
    def source() -> Iterator[str]:
        stop = shutdown_event()
        yield "tick"
        while not stop.is_set():
            yield "tick"
            time.sleep(0.02)
        yield "the source's own farewell"

    return EventSourceResponse(source(), options=_OWN_WORDS)


@app.get("/own-words")
async def own_words() -> EventSourceResponse:
    async def source() -> AsyncIterator[Event]:
        yield Event("tick")
        await shutdown_event().wait()
        yield Event("the source's own farewell")

    return EventSourceResponse(source(), options=_OWN_WORDS)


@app.get("/run")
async def run(request: Request) -> Response:
    return (await streams.run("ticks", _ticks())).response(request)


@app.get("/subscription")
async def subscription(request: Request) -> Response:
    return streams.subscribe("ticks", request, start="start")


@app.get("/download")
async def download() -> StreamingResponse:
    async def parts() -> AsyncIterator[bytes]:
        for number in range(20):
            yield b"%02d\n" % number
            await anyio.sleep(0.1)

    return StreamingResponse(parts())


@app.get("/waiting")
async def waiting(request: Request) -> Response:
    return streams.subscribe("nothing-yet", request)
