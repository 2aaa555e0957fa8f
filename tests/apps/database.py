"""An application whose requests take a session from a small pool, by a `yield` dependency."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

from fastapi import Depends, FastAPI
from sqlalchemy import QueuePool, create_engine, text
from sqlalchemy.orm import Session

from tailrace import EventSourceResponse, StreamingResponse, StreamOptions
from tests.apps.record import Gate, gates

__all__ = ["FILE_VARIABLE", "POOL_SIZE", "app"]

FILE_VARIABLE = "TAILRACE_TEST_DATABASE"
"""The environment variable with the path of the database's file."""

POOL_SIZE = 5

engine = create_engine(
    f"sqlite:///{os.environ.get(FILE_VARIABLE, '')}",
    poolclass=QueuePool,
    pool_size=POOL_SIZE,
    max_overflow=0,
    pool_timeout=1.0,
    connect_args={"check_same_thread": False},
)


def session() -> Iterator[Session]:
    with Session(engine) as opened:
        opened.execute(text("select 1"))
        yield opened


Pooled = Annotated[Session, Depends(session)]

app = FastAPI()
# For the `yield` endpoint. The other endpoints give options to their response.
app.state.stream_options = StreamOptions(release_dependencies=True)


@app.get("/row")
async def row(pooled: Pooled) -> int:
    value: int = pooled.execute(text("select 42")).scalar_one()
    return value


@app.get("/stream")
async def stream(pooled: Pooled, key: str, release: bool) -> StreamingResponse:
    """A stream that waits until its gate is opened. It reads from the session before it starts."""
    value = pooled.execute(text("select 42")).scalar_one()
    options = StreamOptions(release_dependencies=release)
    return StreamingResponse(waiting(f"{value}", gates.of(key)), options=options)


@app.get("/yielding", response_class=EventSourceResponse)
async def yielding(pooled: Pooled, key: str) -> AsyncIterator[str]:
    async for item in waiting("event", gates.of(key)):
        yield item


@app.get("/checked-out")
async def checked_out() -> int:
    """How many connections of the pool are in use."""
    pool = engine.pool
    assert isinstance(pool, QueuePool)
    return pool.checkedout()


@app.post("/release")
async def release(of: str) -> None:
    gates.of(of).open()


async def waiting(item: str, gate: Gate) -> AsyncIterator[str]:
    yield item
    await gate.wait()
