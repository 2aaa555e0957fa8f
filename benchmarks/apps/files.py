"""A file in Tailrace's FileResponse and in Starlette's, and a small endpoint that can be polled."""

from __future__ import annotations

import os

import starlette.responses
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from benchmarks.apps import sources
from tailrace import FileResponse


async def ours(request: Request) -> Response:
    return FileResponse(os.environ[sources.FILE_VARIABLE])


async def theirs(request: Request) -> Response:
    return starlette.responses.FileResponse(os.environ[sources.FILE_VARIABLE])


async def ping(request: Request) -> Response:
    return PlainTextResponse("pong")


app = Starlette(routes=[Route("/ours", ours), Route("/theirs", theirs), Route("/ping", ping)])
