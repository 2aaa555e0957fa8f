"""The application of tests/sockets/sleepers.py: pages that sleep, and files, streams and runs."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterator

from fastapi import FastAPI, Request
from starlette.responses import Response

from tailrace import Files, StreamingResponse, Streams, limits, stats
from tailrace.runtime import source_threads

if "SLEEPERS_THREADS" in os.environ:  # fewer threads, and a shorter wait for them
    source_threads.limit = int(os.environ["SLEEPERS_THREADS"])
    limits.SYNC_SOURCE_WAIT = 0.5  # type: ignore[misc] # final

PACE = float(os.environ.get("SLEEPERS_PACE", "1"))
"""Seconds between two lines of a page."""

streams = Streams(os.environ.get("SLEEPERS_STORE", "memory://"))
app = FastAPI(lifespan=streams.lifespan)
app.include_router(streams.router(), prefix="/v1/stream")
app.mount("/files", Files(os.environ.get("SLEEPERS_FILES", ".")))


@app.get("/page")
async def page() -> StreamingResponse:
    def lines() -> Iterator[str]:
        while True:
            time.sleep(PACE)
            yield "line\n"

    return StreamingResponse(lines(), media_type="text/plain")


@app.get("/stuck")
async def stuck() -> StreamingResponse:
    """One line, and then a call that blocks for long, as a query without a time-out."""

    def lines() -> Iterator[str]:
        yield "line\n"
        time.sleep(600)

    return StreamingResponse(lines(), media_type="text/plain")


@app.post("/run/{name}")
async def run(name: str, request: Request) -> Response:
    async def steps() -> AsyncIterator[dict[str, int]]:
        for number in range(10):
            yield {"step": number}

    work = await streams.run(f"runs/{name}", steps())
    return work.response(request)


@app.get("/stats")
async def numbers() -> dict[str, int]:
    now = stats()
    return {"threads": now.source_threads, "line": now.source_line, "refused": now.refused}
