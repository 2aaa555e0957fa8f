"""An application that records its requests, their order, and which clients have left."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import PlainTextResponse
from starlette.requests import ClientDisconnect

from tailrace import EventSourceResponse, StreamingResponse

__all__ = ["app"]

app = FastAPI()
asked: list[str] = []
open_streams: list[str] = []


@app.api_route("/echo/{name}", methods=["GET", "POST", "PUT"])
async def echo(name: str, request: Request, wait: float = 0) -> PlainTextResponse:
    asked.append(name)
    try:
        body = await request.body()
    except ClientDisconnect:
        return PlainTextResponse("nobody is here")
    await asyncio.sleep(wait)
    return PlainTextResponse(f"{request.method} {name} {body.decode('latin-1')!r}")


@app.post("/fields")
async def fields(request: Request) -> list[tuple[str, str]]:
    await request.body()
    return [(name.decode(), value.decode()) for name, value in request.headers.raw]


@app.post("/size")
async def size(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


@app.get("/lines")
async def lines(count: int = 3) -> StreamingResponse:
    async def source() -> AsyncIterator[str]:
        for number in range(count):
            yield f"line {number}\n"
            await asyncio.sleep(0.01)

    return StreamingResponse(source(), media_type="text/plain")


@app.get("/silent/{name}")
async def silent(name: str) -> EventSourceResponse:
    async def source() -> AsyncIterator[str]:
        open_streams.append(name)
        try:
            yield "hello"
            await asyncio.sleep(3600)
        finally:
            open_streams.remove(name)

    return EventSourceResponse(source())


@app.get("/state")
async def state() -> dict[str, object]:
    descriptors = len(os.listdir("/proc/self/fd"))
    return {"asked": asked, "open": open_streams, "descriptors": descriptors}


@app.websocket("/socket")
async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)
