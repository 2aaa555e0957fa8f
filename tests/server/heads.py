"""An application that tells what it got, in a process that waits for no head for long."""

from __future__ import annotations

import asyncio
import json

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from tailrace import limits

__all__ = ["app"]

vars(limits)["HEAD_TIMEOUT"] = 0.6  # for the whole process: so no test imports this


async def echo(request: Request) -> Response:
    body = await request.body()
    return Response(json.dumps([len(request.headers.raw), len(body)]))


async def slow(_request: Request) -> Response:
    """Takes longer than a head may."""
    await asyncio.sleep(3 * limits.HEAD_TIMEOUT)
    return Response("done")


async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


app = Starlette(
    routes=[
        Route("/", echo, methods=["GET", "POST"]),
        Route("/slow", slow),
        WebSocketRoute("/socket", socket),
    ]
)
