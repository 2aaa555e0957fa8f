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

# For the whole process: so no test imports this.
vars(limits).update(HEAD_TIMEOUT=0.6, LINGER=0.8, LINGER_SILENCE=0.3)


async def echo(request: Request) -> Response:
    body = await request.body()
    return Response(json.dumps([len(request.headers.raw), len(body)]))


async def slow(_request: Request) -> Response:
    """Takes longer than a head may."""
    await asyncio.sleep(3 * limits.HEAD_TIMEOUT)
    return Response("done")


async def kept(_request: Request) -> Response:
    """Does not read the body."""
    return Response("too much", 413)


async def last(_request: Request) -> Response:
    return Response("too much", 413, headers={"connection": "close"})


async def fails(_request: Request) -> Response:
    raise RuntimeError("on purpose")


async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


app = Starlette(
    routes=[
        Route("/", echo, methods=["GET", "POST"]),
        Route("/slow", slow),
        Route("/kept", kept, methods=["POST"]),
        Route("/last", last, methods=["POST"]),
        Route("/fails", fails, methods=["POST"]),
        WebSocketRoute("/socket", socket),
    ]
)
