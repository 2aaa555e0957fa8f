"""The application of tests/fuzz: responses of every kind, made from the mark in their path.

So every answer shows to which request it belongs: its body consists of the path's mark, and its
header `x-answers` is the mark with the request's number (`?r=`), if the response can have headers.
`/state` tells what the process holds, and which requests it served that were never sent.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import PlainTextResponse
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from tailrace import (
    EventSourceResponse,
    FileResponse,
    JSONLinesResponse,
    StreamingResponse,
    Streams,
    stats,
)
from tailrace.testing import leaks

__all__ = ["app", "broken"]

TICKS = 5
"""How many messages are appended to the stream of `/subscribed`."""

TICK = 0.01
"""Seconds between two of these messages."""

streams = Streams("memory://")
folder = Path(tempfile.mkdtemp(prefix="tailrace-fuzzed-"))
smuggled: list[str] = []
tickers: set[asyncio.Task[None]] = set()


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    async with streams:
        yield
    shutil.rmtree(folder)


api = FastAPI(lifespan=lifespan)
api.include_router(streams.router(), prefix="/v1/stream")


# Asking -------------------------------------------------------------------------------------------


@api.get("/healthz")
async def healthz() -> PlainTextResponse:
    return PlainTextResponse("ok")


@api.get("/state")
async def state() -> dict[str, Any]:
    gc.collect()
    return {
        "tasks": len(asyncio.all_tasks()),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "busy_threads": len(leaks._busy_threads()),
        "generators": len(leaks._suspended()),
        "open": stats().open,
        "smuggled": smuggled,
    }


@api.api_route("/smuggled/{mark}", methods=["GET", "HEAD", "POST", "PUT", "DELETE"])
async def smuggle(mark: str) -> PlainTextResponse:
    """Called only if a server takes bytes for a request that are not one."""
    smuggled.append(mark)
    return PlainTextResponse(f"smuggled by {mark}\n")


# Answers of every kind ----------------------------------------------------------------------------


def own(mark: str, r: int) -> dict[str, str]:
    return {"x-answers": f"{mark}.{r}"}


@api.api_route("/text/{mark}", methods=["GET", "HEAD"])
async def text(mark: str, r: int = 0) -> PlainTextResponse:
    return PlainTextResponse(f"{mark} {r}\n", headers=own(mark, r))


def lines_of(mark: str, r: int, count: int) -> Iterator[str]:
    return (f"{mark} {r} {n}\n" for n in range(count))


@api.api_route("/chunks/{mark}", methods=["GET", "HEAD"])
async def chunks(mark: str, r: int = 0, count: int = 3, sync: bool = False) -> StreamingResponse:
    async def source() -> AsyncIterator[str]:
        for line in lines_of(mark, r, count):
            yield line
            await asyncio.sleep(0)

    content = lines_of(mark, r, count) if sync else source()
    return StreamingResponse(content, headers=own(mark, r), media_type="text/plain")


@api.get("/blocks/{mark}")
async def blocks(mark: str, r: int = 0, count: int = 3) -> StreamingResponse:
    """Chunks so large that a slow reader holds up the server."""

    async def source() -> AsyncIterator[bytes]:
        for _ in range(count):
            yield mark.encode() * 4096

    return StreamingResponse(source(), headers=own(mark, r))


@api.get("/lines/{mark}")
async def lines(mark: str, r: int = 0, count: int = 3) -> JSONLinesResponse:
    return JSONLinesResponse(({"m": mark, "n": n} for n in range(count)), headers=own(mark, r))


@api.get("/events/{mark}")
async def events(mark: str, r: int = 0, count: int = 3) -> EventSourceResponse:
    return EventSourceResponse(({"m": mark, "n": n} for n in range(count)), headers=own(mark, r))


@api.get("/poll/{mark}")
async def poll(mark: str, r: int = 0, wait: float = 0.02) -> PlainTextResponse:
    await asyncio.sleep(wait)
    return PlainTextResponse(f"{mark} {r}\n", headers=own(mark, r))


# Streams ------------------------------------------------------------------------------------------


async def tick(path: str, mark: str) -> None:
    for n in range(TICKS):
        await streams.append(path, {"m": mark, "n": n})
        await asyncio.sleep(TICK)
    await streams.close(path)
    await streams.delete(path)


@api.get("/subscribed/{mark}")
async def subscribed(request: Request, mark: str, r: int = 0) -> Response:
    """A stream that is written while it is read; the writing goes on when the reader leaves."""
    path = f"ticks/{mark}/{r}"
    task = asyncio.create_task(tick(path, mark))
    tickers.add(task)
    task.add_done_callback(tickers.discard)
    response = streams.subscribe(path, request, start="start")
    response.headers.update(own(mark, r))
    return response


@api.get("/run/{mark}")
async def run(request: Request, mark: str, r: int = 0, count: int = 3) -> Response:
    async def source() -> AsyncIterator[dict[str, Any]]:
        for n in range(count):
            yield {"m": mark, "n": n}
            await asyncio.sleep(0)

    begun = await streams.run(f"runs/{mark}/{r}", source(), ttl=5)
    return begun.response(request)


# Files --------------------------------------------------------------------------------------------


@api.api_route("/file/{mark}", methods=["GET", "HEAD"])
async def file(mark: str, r: int = 0, count: int = 100) -> FileResponse:
    """A file that exists only for this request, and is deleted after the answer."""
    path = folder / f"{mark}-{r}"
    path.write_text(mark * count)
    background = BackgroundTask(path.unlink, missing_ok=True)
    return FileResponse(path, headers=own(mark, r), background=background)


# Bodies -------------------------------------------------------------------------------------------


async def digest_of(request: Request) -> str:
    digest = hashlib.sha256()
    try:
        async for chunk in request.stream():
            digest.update(chunk)
    except ClientDisconnect:
        return "the client is gone"
    return digest.hexdigest()


@api.post("/upload/{mark}")
async def upload(request: Request, mark: str, r: int = 0) -> PlainTextResponse:
    digest = await digest_of(request)
    return PlainTextResponse(f"{mark} {r} {digest}\n", headers=own(mark, r))


@api.post("/echo/{mark}")
async def echo(request: Request, mark: str, r: int = 0) -> StreamingResponse:
    """Sends its first line before it reads the body."""

    async def source() -> AsyncIterator[str]:
        yield f"{mark} {r}\n"
        yield f"{mark} {r} {await digest_of(request)}\n"

    return StreamingResponse(source(), headers=own(mark, r), media_type="text/plain")


@api.post("/unread/{mark}")
async def unread(mark: str, r: int = 0) -> PlainTextResponse:
    return PlainTextResponse(f"{mark} {r}\n", headers=own(mark, r))


# WebSocket ----------------------------------------------------------------------------------------


@api.websocket("/ws/{mark}")
async def ws(socket: WebSocket, mark: str) -> None:
    await socket.accept()
    try:
        while (text := (await socket.receive()).get("text")) is not None:
            await socket.send_text(f"{mark} {text}")
    except WebSocketDisconnect:
        pass


app = api


# Faults that the fuzz must find -------------------------------------------------------------------


async def broken(scope: Scope, receive: Receive, send: Send) -> None:
    """The same application with faults; the last digit of the mark tells which."""
    if scope["type"] != "http" or not scope["path"].startswith("/text/"):
        await api(scope, receive, send)
        return
    digit = scope["path"][-1]
    if digit == "3":
        raise RuntimeError("on purpose")
    if digit == "7":
        scope = {**scope, "path": f"/text/mk{'0' * 12}"}
    if digit == "b":
        tickers.add(asyncio.create_task(asyncio.sleep(3600)))
    await api(scope, receive, send)
