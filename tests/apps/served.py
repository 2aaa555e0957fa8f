"""`tailrace serve` with a few more routes.

    python -m tests.apps.served serve DIRECTORY

runs the command itself, with its own server, log and shutdown. Only the application has more
routes: events, a file on a disk that fails, and a list of what the process holds. If the
environment has `MARK_AT_SHUTDOWN`, the lifespan writes a file with that path at shutdown.
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
"""The first byte of `/failing` that cannot be read."""


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
"""The connections of clients that get events without end."""


async def events(request: Request, size: int = 0) -> EventSourceResponse:
    """One event and then nothing; with `size`, events of that size without end."""
    if size:
        connections.append(request.scope["extensions"][CONNECTION])

    async def source() -> AsyncIterator[str]:
        yield "hello"
        while size:
            yield "x" * size
        await asyncio.Event().wait()

    return EventSourceResponse(source())


class FailingDisk:
    """A range source whose storage fails half-way."""

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
