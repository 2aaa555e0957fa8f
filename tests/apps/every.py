"""The application that every server of `tests.servers` runs: each kind of stream, with each source.

A source notes "started" and "closed" under the request's `?key=`, and waits at the gate of that
key (`record.py`). `/record` tells what was noted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
from fastapi import Body, FastAPI, Request
from starlette.responses import Response

from tailrace import (
    EventSourceResponse,
    JSONLinesResponse,
    StreamingResponse,
    StreamRoute,
    Streams,
)
from tests.apps.record import Recorded, gates, record, recorded

__all__ = ["app"]

Answer = Callable[[Request, str, AsyncIterator[Any]], Any]

streams = Streams("memory://")
api = FastAPI(lifespan=streams.lifespan)
api.router.route_class = StreamRoute


@api.get("/record")
async def read_record(of: str) -> list[str]:
    return record.entries[of]


@api.post("/echo")
async def echo(request: Request) -> StreamingResponse:
    """Sends the request's body back while it comes."""
    return StreamingResponse(request.stream(), media_type="application/octet-stream")


@api.get("/subscription/waits")
async def subscription(request: Request, key: str) -> Response:
    await streams.append(key, {"n": 0})
    return streams.subscribe(key, request, start="start")


@api.get("/{kind}/waits")
async def waits(kind: str, request: Request, key: str) -> Response:
    """One item, and then nothing until the gate is opened."""
    return await answer(kind, request, key, waiting(key))


@api.post("/{kind}/waits")
async def waits_after_body(
    kind: str, request: Request, key: str, size: int = Body(embed=True)
) -> Response:
    """The same, for a request whose body FastAPI has read."""
    return await answer(kind, request, key, waiting(key))


@api.post("/{kind}/waits-after-json")
async def waits_after_json(kind: str, request: Request, key: str) -> Response:
    """The same, for a request whose body the endpoint has read."""
    await request.json()
    return await answer(kind, request, key, waiting(key))


@api.get("/{kind}/fails")
async def fails(kind: str, request: Request, key: str) -> Response:
    """Two items, then an error."""
    return await answer(kind, request, key, failing())


@api.get("/{kind}/counts")
async def counts(kind: str, request: Request, key: str) -> Response:
    """Five items with waits between them."""
    return await answer(kind, request, key, counting())


async def answer(kind: str, request: Request, key: str, source: AsyncIterator[Any]) -> Response:
    if kind == "sse":
        return EventSourceResponse(source)
    if kind == "jsonl":
        return JSONLinesResponse(source)
    run = await streams.run(key, source, on_disconnect="cancel")
    return run.response(request)


async def waiting(key: str) -> AsyncIterator[Any]:
    with recorded(key, in_task=False):
        yield {"n": 0}
        await gates.of(key).wait()


async def failing() -> AsyncIterator[Any]:
    yield {"n": 0}
    yield {"n": 1}
    raise RuntimeError("of the source")


async def counting() -> AsyncIterator[Any]:
    for n in range(5):
        yield {"n": n}
        await anyio.sleep(0.01)


app = Recorded(api)
