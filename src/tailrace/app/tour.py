"""The tour: each kind of stream that Tailrace sends, in one small FastAPI application.

`tailrace demo` serves it; the page at `/` shows every stream arriving, and this code beside it.
"""

from __future__ import annotations

import itertools
import random
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from anyio import sleep
from fastapi import APIRouter, FastAPI, Header, Query, Request, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel

from tailrace import (
    Event,
    EventSourceResponse,
    MultipartMixedReplaceResponse,
    StreamingResponse,
    StreamRoute,
    negotiate,
)
from tailrace.app.camera import picture

__all__ = ["app", "create_tour"]

STATIC = Path(__file__).with_name("static")
PAGE_HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'",
}

router = APIRouter(route_class=StreamRoute)


@router.get("/stream")
async def stream() -> StreamingResponse:
    async def words() -> AsyncIterator[str]:
        yield "Hello "
        await sleep(0.6)
        yield "from "
        await sleep(0.6)
        yield "FastAPI!"

    return StreamingResponse(words(), media_type="text/plain")


@router.get("/numbers")
def numbers(count: Annotated[int, Query(ge=1, le=1_000_000)] = 5) -> StreamingResponse:
    lines = (f"Number {number}\n" for number in range(1, count + 1))
    return StreamingResponse(lines, media_type="text/plain")


@router.get("/file")
def file(request: Request) -> StreamingResponse:
    def chunks() -> Iterator[bytes]:
        with open(request.state.file, "rb") as source:
            while chunk := source.read(1024):
                yield chunk

    return StreamingResponse(chunks(), media_type="text/plain")


class Step(BaseModel):
    percent: int
    message: str
    seconds_left: float


@router.get("/progress", response_class=EventSourceResponse)
async def progress() -> AsyncIterator[Step | Event]:
    stages = ["Gathering the figures", "Drawing the charts", "Checking the sums", "Binding it"]
    for percent in range(100):
        left = (100 - percent) / 10
        yield Step(percent=percent, message=stages[percent // 25], seconds_left=left)
        await sleep(0.1)
    yield Event(event="done", data=Step(percent=100, message="It is ready", seconds_left=0))


class Price(BaseModel):
    symbol: str
    price: float


@router.get("/ticker", response_class=EventSourceResponse)
async def ticker(last_event_id: Annotated[int, Header(ge=0)] = 0) -> AsyncIterator[Price | Event]:
    price = 100.0
    for number in itertools.count(last_event_id + 1):
        price *= random.gauss(1, 0.004)
        yield Event(data=Price(symbol="MILL", price=round(price, 2)), id=str(number))
        await sleep(0.5)


@router.get("/camera")
async def camera() -> MultipartMixedReplaceResponse:
    async def frames() -> AsyncIterator[bytes]:
        while True:
            yield picture(time.time())
            await sleep(0.1)

    return MultipartMixedReplaceResponse(frames(), part_type="image/jpeg")


class Row(BaseModel):
    number: int
    square: int
    cube: int


@router.get("/rows")
async def rows(request: Request) -> Response:
    async def table() -> AsyncIterator[Row]:
        for number in range(1, 9):
            yield Row(number=number, square=number**2, cube=number**3)
            await sleep(0.2)

    return negotiate(table(), request)


@router.get("/", include_in_schema=False)
def page() -> FileResponse:
    return FileResponse(STATIC / "index.html", headers=PAGE_HEADERS)


@router.get("/tour.py", include_in_schema=False)
def code() -> FileResponse:
    return FileResponse(__file__, media_type="text/plain")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
    with tempfile.NamedTemporaryFile(suffix=".txt") as made:
        made.writelines(b"This is line %05d of 20000 in a file.\n" % n for n in range(1, 20_001))
        made.flush()
        yield {"file": made.name}


def create_tour() -> FastAPI:
    """The application of the tour."""
    tour = FastAPI(title="The Tailrace tour", lifespan=lifespan)
    tour.include_router(router)
    tour.mount("/static", StaticFiles(directory=STATIC), name="static")
    return tour


app = create_tour()
