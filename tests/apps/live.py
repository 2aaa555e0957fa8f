"""The application of tests/sockets: sources that behave in every way, and a record of each.

Each stream has the parameter `?key=` (see `record.py`), and is at `/sync/...` and at `/async/...`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict
from typing import Any, Literal

import anyio
import anyio.lowlevel
from fastapi import FastAPI, HTTPException, Request
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailrace import (
    Event,
    EventSourceResponse,
    JSONLinesResponse,
    StreamingResponse,
    StreamOptions,
    drain,
    stats,
)
from tailrace.runtime import source_threads
from tests.apps.record import Recorded, gates, record, recorded

__all__ = ["app", "behind_again", "behind_base_middleware", "behind_gzip", "behind_log_body"]

Style = Literal["sync", "async"]
Items = Any
"""A generator or an async generator."""

CHUNK = b"x" * 65536
ITEMS = 10
SECRET = "postgresql://user:secret@db"

api = FastAPI()

# Asking ------------------------------------------------------------------------------------------


@api.get("/record")
async def read_record(of: str) -> dict[str, Any]:
    return {"entries": record.entries[of], "produced": record.produced[of]}


@api.get("/state")
async def state() -> dict[str, int]:
    return {"busy_threads": source_threads.busy, **asdict(stats())}


@api.post("/release")
async def release(of: str) -> None:
    gates.of(of).open()


@api.get("/quick")
def quick() -> str:
    """A `def` endpoint: Starlette answers it in a thread of the pool that all of these share."""
    return "quick"


@api.post("/drain")
async def drain_now(timeout: float, note: str = "drains") -> dict[str, int]:
    record.note(note, "draining")  # clients can see this only when `drain` waits
    return asdict(await drain(timeout))


# Streams -----------------------------------------------------------------------------------------


@api.get("/{style}/waits")
async def waits(style: Style, key: str) -> StreamingResponse:
    """One chunk, a wait at the gate, another chunk."""
    return StreamingResponse(waiting(style, key, b"first", b"second"))


@api.get("/{style}/late")
async def late(style: Style, key: str, start_grace: float = 30.0) -> StreamingResponse:
    """A wait before the first chunk; the status line waits as well."""
    options = StreamOptions(start_grace=start_grace)
    return StreamingResponse(waiting(style, key, b"only"), options=options)


@api.get("/{style}/nothing-first")
async def nothing_first(style: Style, key: str) -> StreamingResponse:
    """An empty chunk, a wait at the gate, a chunk."""
    options = StreamOptions(start_grace=30.0)
    return StreamingResponse(waiting(style, key, b"", b"second"), options=options)


@api.get("/{style}/endless")
async def endless(style: Style, key: str, send_timeout: float = 30.0) -> StreamingResponse:
    """Chunks without end and without a wait."""
    options = StreamOptions(send_timeout=send_timeout)
    return StreamingResponse(producing(style, key, None, lambda _: CHUNK), options=options)


@api.get("/{style}/small")
async def small(style: Style, key: str) -> StreamingResponse:
    """Small chunks without end and without a wait: a tight loop."""
    return StreamingResponse(producing(style, key, None, lambda _: b"0123456789"))


@api.get("/{style}/empty")
async def empty(style: Style, key: str) -> StreamingResponse:
    """Empty chunks without end and without a wait."""
    return StreamingResponse(producing(style, key, None, lambda _: b""))


@api.get("/{style}/paced")
async def paced(style: Style, key: str) -> StreamingResponse:
    """A chunk each millisecond, without end."""
    return StreamingResponse(producing(style, key, None, lambda _: b"tick", pause=0.001))


@api.get("/{style}/fails/{form}")
async def fails(
    style: Style, form: Literal["jsonl", "sse", "raw"], key: str, items: int = ITEMS
) -> StreamingResponse:
    """Some items, then an error."""
    if form == "raw":
        return StreamingResponse(failing(style, key, items, RuntimeError(SECRET), lambda n: CHUNK))
    source = failing(style, key, items, RuntimeError(SECRET), lambda n: {"n": n})
    return JSONLinesResponse(source) if form == "jsonl" else EventSourceResponse(source)


@api.get("/{style}/exits/{form}")
async def exits(style: Style, form: Literal["jsonl", "sse"], key: str) -> StreamingResponse:
    """Some items, then SystemExit."""
    source = failing(style, key, ITEMS, SystemExit(3), lambda n: {"n": n})
    return JSONLinesResponse(source) if form == "jsonl" else EventSourceResponse(source)


@api.get("/{style}/forbidden")
async def forbidden(style: Style, key: str, items: int) -> StreamingResponse:
    """Some items, then HTTPException(403)."""
    return JSONLinesResponse(failing(style, key, items, HTTPException(403), lambda n: {"n": n}))


@api.api_route("/{style}/lines", methods=["GET", "HEAD"])
async def lines(style: Style, key: str, count: int = 3) -> StreamingResponse:
    """Some lines with the key of their request."""
    source = producing(style, key, count, lambda n: f"{key} {n}\n")
    closable = SyncClosable if style == "sync" else AsyncClosable
    return StreamingResponse(closable(key, source), media_type="text/plain")


@api.get("/{style}/megabytes")
async def megabytes(
    style: Style, key: str, count: int, send_timeout: float = 30.0
) -> StreamingResponse:
    options = StreamOptions(send_timeout=send_timeout)
    source = producing(style, key, count * 16, lambda _: CHUNK)
    return StreamingResponse(source, options=options)


@api.get("/{style}/text")
async def text(style: Style, key: str, compress: bool = False) -> StreamingResponse:
    """Two texts with a wait between them, of a type that is compressed."""
    source = waiting(style, key, "first " * 200, "second " * 200)
    options = StreamOptions(compress=compress)
    return StreamingResponse(source, media_type="text/plain", options=options)


@api.get("/{style}/events")
async def events(style: Style, key: str) -> EventSourceResponse:
    """One event, and no other until the gate is opened."""
    return EventSourceResponse(waiting(style, key, Event("first"), Event("second")))


@api.get("/same-object")
async def same_object(request: Request) -> Response:
    """The same response object for every request, which is a mistake of the application."""
    if not hasattr(api.state, "response"):
        api.state.response = StreamingResponse(chunk for chunk in [b"once"])
    response: Response = api.state.response
    return response


# Sources -----------------------------------------------------------------------------------------


def waiting(style: Style, key: str, *items: Any) -> Items:
    """Yields the items, and waits at the gate before the last one."""
    gate = gates.of(key)

    def in_thread() -> Iterator[Any]:
        with recorded(key, in_task=False):
            yield from items[:-1]
            gate.wait_in_thread()
            record.note(key, "released")
            yield items[-1]
            record.note(key, "finished")

    async def in_task() -> AsyncIterator[Any]:
        with recorded(key, in_task=True):
            for item in items[:-1]:
                yield item
            await gate.wait()
            record.note(key, "released")
            yield items[-1]
            record.note(key, "finished")

    return in_thread() if style == "sync" else in_task()


def producing(
    style: Style,
    key: str,
    count: int | None,
    make: Callable[[int], Any],
    *,
    pause: float | None = None,
) -> Items:
    """Yields `count` items; None: items without end."""

    def in_thread() -> Iterator[Any]:
        with recorded(key, in_task=False):
            n = 0
            while count is None or n < count:
                record.count(key)
                yield make(n)
                n += 1
                if pause is not None:
                    time.sleep(pause)

    async def in_task() -> AsyncIterator[Any]:
        with recorded(key, in_task=True):
            n = 0
            while count is None or n < count:
                record.count(key)
                yield make(n)
                n += 1
                if pause is not None:
                    await anyio.sleep(pause)

    return in_thread() if style == "sync" else in_task()


def failing(
    style: Style, key: str, count: int, error: BaseException, make: Callable[[int], Any]
) -> Items:
    """Yields `count` items, then raises the error."""

    def make_or_fail(n: int) -> Any:
        if n == count:
            raise error
        return make(n)

    return producing(style, key, None, make_or_fail)


class SyncClosable:
    """A source that notes its `close`, also if it was never started.

    A generator cannot do that: if it was never started, its `finally` does not run.
    """

    def __init__(self, key: str, items: Items) -> None:
        self._key = key
        self._items = items

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self._items)

    def close(self) -> None:
        record.note(self._key, "close called")
        self._items.close()


class AsyncClosable:
    """As `SyncClosable`, for an async generator."""

    def __init__(self, key: str, items: Items) -> None:
        self._key = key
        self._items = items

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        return await anext(self._items)

    async def aclose(self) -> None:
        record.note(self._key, "close called")
        await self._items.aclose()


async def pass_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
    response = await call_next(request)
    response.headers["x-passed"] = "yes"
    return response


class Again:
    """A middleware that has read the body, for a log, and repeats it in each call of `receive`."""

    def __init__(self, below: ASGIApp) -> None:
        self._below = below

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._below(scope, receive, send)
            return
        first = await receive()

        async def again() -> Message:
            await anyio.lowlevel.checkpoint()
            return first

        await self._below(scope, again, send)


async def log_body(request: Request, call_next: RequestResponseEndpoint) -> Response:
    """The dispatch function of a BaseHTTPMiddleware that does the same."""
    body = await request.body()

    async def again() -> Message:
        return {"type": "http.request", "body": body}

    request._receive = again
    return await call_next(request)


app = Recorded(api)
behind_again = Again(app)
behind_log_body = BaseHTTPMiddleware(app, dispatch=log_body)
behind_base_middleware = BaseHTTPMiddleware(app, dispatch=pass_on)
behind_gzip = GZipMiddleware(app, minimum_size=1)
