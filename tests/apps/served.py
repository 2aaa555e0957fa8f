"""`tailrace serve`, of an application with more in it than files.

    python -m tests.apps.served serve DIRECTORY

is the command itself, and so are its server, its log and its end. Only the application has beside
its own routes events, a disk that fails, and what the process holds. `MARK_AT_SHUTDOWN` in the
environment names a file that the lifespan's shutdown makes.
"""

from __future__ import annotations

import asyncio
import errno
import importlib
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from starlette.types import ASGIApp

from tailrace import EventSourceResponse, FileResponse
from tailrace.app import AccessLog, Settings, create_app
from tailrace.cli import main
from tailrace.connection import CONNECTION, ServerConnection
from tailrace.runtime import source_threads

__all__ = ["FAILS_AT", "create"]

FAILS_AT = 3_000_000
"""The byte from which on `/failing` cannot be read."""


def create() -> ASGIApp:
    app = create_app(Settings.from_environment())
    own = app.pages.router.lifespan_context

    @asynccontextmanager
    async def marked(pages: FastAPI) -> AsyncIterator[None]:
        async with own(pages):
            yield
        mark_the_end()

    app.pages.router.lifespan_context = marked
    app.pages.add_api_route("/events", events)
    app.pages.add_api_route("/failing", failing, response_model=None)
    app.pages.add_api_route("/held", held)
    return AccessLog(app)


def mark_the_end() -> None:
    if mark := os.environ.get("MARK_AT_SHUTDOWN"):
        Path(mark).write_text("shut down")


connections: list[ServerConnection] = []
"""Of the clients that were sent events without end."""


async def events(request: Request, size: int = 0) -> EventSourceResponse:
    """One event, and then none, or as many of a size as the client takes."""
    if size:
        connections.append(request.scope["extensions"][CONNECTION])

    async def source() -> AsyncIterator[str]:
        yield "hello"
        while size:
            yield "x" * size
        await asyncio.Event().wait()

    return EventSourceResponse(source())


class FailingDisk:
    """A range source whose storage gives up half-way."""

    size = 2 * FAILS_AT

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        for at in range(start, stop, 1000):
            if at >= FAILS_AT:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            yield bytes(min(1000, stop - at))


async def failing() -> FileResponse:
    return FileResponse(FailingDisk())


async def held() -> dict[str, Any]:
    return {
        "tasks": len(asyncio.all_tasks()),
        "busy_threads": source_threads.busy,
        "stalled": sum(each.stalled_since is not None for each in connections),
    }


if __name__ == "__main__":
    vars(importlib.import_module("tailrace.cli.serve"))["_APP"] = "tests.apps.served:create"
    main()
