"""An application as in the README, for tests on real servers: reports and a ticker."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import anyio
from fastapi import FastAPI, Request

from tailrace import Grace, Progress, Streams

__all__ = ["app"]

streams = Streams(os.environ["STREAMS_URL"], lease=1)
app = FastAPI(lifespan=streams.lifespan)
app.include_router(streams.router(), prefix="/v1/stream")

POLICIES: dict[str, Any] = {"continue": "continue", "cancel": "cancel", "grace": Grace(0.3)}


@app.post("/reports/{name}")
async def report(name: str, request: Request, policy: str = "continue", rows: int = 20) -> Any:
    run = await streams.run(f"reports/{name}", build(rows), on_disconnect=POLICIES[policy])
    return run.response(request)


async def build(rows: int) -> AsyncIterator[Any]:
    progress = Progress(total=rows, unit="rows")
    for n in range(rows):
        yield {"row": n}
        yield progress.step(message=f"row {n}")
        await anyio.sleep(0.02)


@app.get("/ticker")
async def ticker(request: Request) -> Any:
    return streams.subscribe("ticker", request)


@app.post("/ticker")
async def tick(price: int) -> str:
    return await streams.append("ticker", {"price": price})
