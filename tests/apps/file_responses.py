"""File responses under a real server, directly and behind Starlette's middlewares.

The environment variable `FOLDER` is the path of a folder with `film.bin` and `small.txt`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import FileResponse as StarlettesFileResponse
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from tailrace import FileResponse

__all__ = ["app"]

FOLDER = Path(os.environ.get("FOLDER", "."))


class Generated:
    """The bytes of `film.bin`, as a range source."""

    @property
    def size(self) -> int:
        return (FOLDER / "film.bin").stat().st_size

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        with (FOLDER / "film.bin").open("rb") as film:
            film.seek(start)
            while start < stop:
                chunk = film.read(min(100_000, stop - start))
                start += len(chunk)
                yield chunk


async def film(request: Any) -> Any:
    return FileResponse(FOLDER / "film.bin")


async def small(request: Any) -> Any:
    return FileResponse(FOLDER / "small.txt")


async def generated(request: Any) -> Any:
    return FileResponse(Generated())


async def descriptors(request: Any) -> Any:
    """How many descriptors of this process are open on files of the folder."""
    count = 0
    for number in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{number}").startswith(str(FOLDER))
        except FileNotFoundError:
            continue  # the descriptor of `listdir` itself
    return PlainTextResponse(str(count))


async def starlettes(request: Any) -> Any:
    return StarlettesFileResponse(FOLDER / "small.txt")


async def offered(scope: Any, receive: Any, send: Any) -> None:
    """Whether the server offers `pathsend` and `zerocopysend` to this application."""
    names = ("http.response.pathsend", "http.response.zerocopysend")
    extensions = scope["extensions"]
    said = [names[0] in extensions, names[1] in extensions]
    await JSONResponse(said)(scope, receive, send)


async def passing(request: Any, call_next: Any) -> Any:
    return await call_next(request)


async def shouting(request: Any, call_next: Any) -> Any:
    """Reads the whole body and sends another, as middlewares of applications do."""
    response = await call_next(request)
    body = b"".join([part async for part in response.body_iterator])
    return Response(body.upper(), response.status_code, dict(response.headers))


class Shouting:
    """A middleware that changes each part of a body as it passes."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def louder(message: Any) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": message.get("body", b"").upper()}
            await send(message)

        await self.app(scope, receive, louder)


ROUTES = [
    Route("/film", film),
    Route("/small", small),
    Route("/generated", generated),
    Route("/descriptors", descriptors),
    Route("/starlettes", starlettes),
    Mount("/static", StaticFiles(directory=FOLDER)),
    Mount("/offered", offered),
]

app = Starlette(
    routes=[
        *ROUTES,
        Mount("/gzip", routes=ROUTES, middleware=[Middleware(GZipMiddleware)]),
        Mount(
            "/base", routes=ROUTES, middleware=[Middleware(BaseHTTPMiddleware, dispatch=passing)]
        ),
        Mount("/cors", routes=ROUTES, middleware=[Middleware(CORSMiddleware)]),
        Mount("/shouting", routes=ROUTES, middleware=[Middleware(Shouting)]),
        Mount(
            "/shouting-base",
            routes=ROUTES,
            middleware=[Middleware(BaseHTTPMiddleware, dispatch=shouting)],
        ),
    ]
)
