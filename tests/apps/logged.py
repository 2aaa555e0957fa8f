"""Responses of every kind behind the access log, which goes to stdout."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from starlette.responses import FileResponse, Response
from starlette.types import Receive, Scope, Send

from tailrace import EventSourceResponse, StreamingResponse, StreamOptions
from tailrace.app import ACCESS_LOGGER, AccessLog
from tailrace.connection import Frame, attach_offer

__all__ = ["app"]

log = logging.getLogger(ACCESS_LOGGER)
log.setLevel(logging.INFO)
log.addHandler(logging.StreamHandler(sys.stdout))

inner = FastAPI()


@inner.get("/events")
def events() -> EventSourceResponse:
    return EventSourceResponse(iter(["one", "two"]))


@inner.get("/endless")
def endless() -> EventSourceResponse:
    async def source() -> AsyncIterator[str]:
        yield "one"
        await anyio.sleep_forever()

    return EventSourceResponse(source())


@inner.get("/flood")
def flood() -> StreamingResponse:
    async def source() -> AsyncIterator[bytes]:
        while True:
            yield bytes(65536)

    return StreamingResponse(source(), options=StreamOptions(send_timeout=0.4))


@inner.get("/fails")
def fails() -> StreamingResponse:
    async def source() -> AsyncIterator[bytes]:
        yield b"begun"
        await anyio.sleep(0.01)
        raise RuntimeError("on purpose")

    return StreamingResponse(source())


@inner.get("/broken")
def broken() -> None:
    raise RuntimeError("on purpose")


@inner.get("/text")
def text() -> PlainTextResponse:
    return PlainTextResponse("hello")


@inner.get("/file")
def file() -> FileResponse:
    return FileResponse(Path(__file__))  # Starlette's own: pathsend


class Attaching(Response):
    """A response that writes to its connection directly, without `send`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        offer = attach_offer(scope)
        assert offer is not None
        start = {"type": "http.response.start", "status": 200, "headers": []}
        attached = await offer.attach(send, start, b"first;")
        assert attached is not None, "the way to the server was not known"
        for data in (b"second;", b"third;"):
            assert attached.write(Frame(data))
        attached.release()
        await send({"type": "http.response.body", "body": b""})


@inner.get("/attached")
def attach() -> Attaching:
    return Attaching()


app = AccessLog(inner)
