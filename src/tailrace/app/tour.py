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
from typing import Annotated, Any
from uuid import UUID, uuid4

from anyio import sleep
from fastapi import APIRouter, FastAPI, Header, Query, Request, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field

from tailrace import (
    Event,
    EventSourceResponse,
    MultipartMixedReplaceResponse,
    Progress,
    StreamingResponse,
    StreamNotFound,
    StreamRoute,
    Streams,
    negotiate,
)
from tailrace.app.tour_content import answer_to, picture

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


class ReportStep(BaseModel):
    percent: int
    message: str
    seconds_left: float


@router.get("/progress", response_class=EventSourceResponse)
async def progress() -> AsyncIterator[ReportStep | Event]:
    stages = ["Gathering the figures", "Drawing the charts", "Checking the sums", "Binding it"]
    for percent in range(100):
        left = (100 - percent) / 10
        yield ReportStep(percent=percent, message=stages[percent // 25], seconds_left=left)
        await sleep(0.1)
    yield Event(event="done", data=ReportStep(percent=100, message="It is ready", seconds_left=0))


class Price(BaseModel):
    symbol: str
    price: float


@router.get("/ticker", response_class=EventSourceResponse)
async def ticker(
    last_event_id: Annotated[str, Header()] = "", after: str = ""
) -> AsyncIterator[Price | Event]:
    price = 100.0
    seen = last_event_id or after  # sent by a browser that reconnects; by a page that comes back
    # A client may send the id of another server's event. A browser that is refused gives up.
    last = int(seen) if seen.isdecimal() else 0
    for number in itertools.count(last + 1):
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


async def written() -> AsyncIterator[Event]:
    progress = Progress(total=240, unit="pages")
    for page in range(240):
        await sleep(0.1)
        yield progress.step(message=f"Page {page + 1} is written")


@router.get("/report/{visitor}")
async def report(visitor: UUID, request: Request) -> Response:
    streams: Streams = request.state.streams
    run = await streams.run(f"reports/{visitor}", written(), on_disconnect="continue")
    return run.response(request)


@router.delete("/report/{visitor}", status_code=204)
async def forget(visitor: UUID, request: Request) -> None:
    streams: Streams = request.state.streams
    await streams.delete(f"reports/{visitor}")


class Question(BaseModel):
    question: Annotated[str, Field(min_length=1, max_length=200)]


class Turn(Question):
    answer: UUID


@router.get("/chat/{visitor}")
async def chat(visitor: UUID, request: Request) -> list[Turn]:
    streams: Streams = request.state.streams
    try:
        return [Turn(**turn.data) async for turn in streams.read(f"chats/{visitor}")]
    except StreamNotFound:
        return []


@router.post("/chat/{visitor}", status_code=202)
async def ask(visitor: UUID, asked: Question, request: Request) -> Turn:
    streams: Streams = request.state.streams
    turn = Turn(question=asked.question, answer=uuid4())
    await streams.run(f"answers/{turn.answer}", words(asked.question), on_disconnect="continue")
    await streams.append(f"chats/{visitor}", turn)
    return turn


@router.get("/answers/{answer}")
def answer(answer: UUID, request: Request) -> Response:
    streams: Streams = request.state.streams
    return streams.subscribe(f"answers/{answer}", request, start="start")


async def words(question: str) -> AsyncIterator[str]:
    for word in answer_to(question).split(" "):
        await sleep(0.12)
        yield f"{word} "


@router.get("/", include_in_schema=False)
def page() -> FileResponse:
    return FileResponse(STATIC / "index.html", headers=PAGE_HEADERS)


@router.get("/tour.py", include_in_schema=False)
def code() -> FileResponse:
    return FileResponse(__file__, media_type="text/plain")


def _write_lines(directory: str) -> Path:
    file = Path(directory, "lines.txt")
    lines = (b"This is line %05d of 20000 in a file.\n" % number for number in range(1, 20_001))
    file.write_bytes(b"".join(lines))
    return file


def create_tour(store: str = "memory://") -> FastAPI:
    """The application of the tour.

    Args:
        store: The URL of the store for the report and the chat.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        # Not NamedTemporaryFile: Windows cannot open such a file a second time. Nor can it delete a
        # file that is being read.
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
            made = _write_lines(directory)
            async with Streams(store) as streams:
                yield {"file": made, "streams": streams}

    tour = FastAPI(title="The Tailrace tour", lifespan=lifespan)
    tour.include_router(router)
    tour.mount("/static", StaticFiles(directory=STATIC), name="static")
    return tour


app = create_tour()
