"""An application that answers what it received, in a process with a short time for a head."""

from __future__ import annotations

import asyncio
import gc
import json
from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from tailrace import limits

__all__ = ["app"]

# This is for the whole process, so no test may import this module.
vars(limits).update(HEAD_TIMEOUT=0.6, LINGER=0.8, LINGER_SILENCE=0.3)


async def echo(request: Request) -> Response:
    body = await request.body()
    return Response(json.dumps([len(request.headers.raw), len(body)]))


async def slow(_request: Request) -> Response:
    """Takes longer to answer than a head may take to arrive."""
    await asyncio.sleep(3 * limits.HEAD_TIMEOUT)
    return Response("done")


async def kept(_request: Request) -> Response:
    """Answers without reading the body; the connection is kept."""
    return Response("too much", 413)


async def last(_request: Request) -> Response:
    return Response("too much", 413, headers={"connection": "close"})


async def fails(_request: Request) -> Response:
    raise RuntimeError("on purpose")


class Silent:
    """Returns without an answer; uvicorn then gives one."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        return


async def late(_request: Request) -> Response:
    """Answers, and fails in its background task when `/behind` is requested."""
    may_fail = asyncio.Event()

    async def fail() -> None:
        await may_fail.wait()
        raise RuntimeError("on purpose")

    failing.append((may_fail, asyncio.current_task()))
    return Response("done", background=BackgroundTask(fail))


async def behind(_request: Request) -> Response:
    may_fail, task = failing.pop()
    may_fail.set()
    await asyncio.wait([task])
    return Response("behind")


failing: list[tuple[asyncio.Event, Any]] = []


async def remembered(_request: Request) -> Response:
    """How many connections are in memory. The garbage collector is off, so that connections that
    only it could free are counted."""
    if gc.isenabled():
        gc.collect()
        gc.disable()
    count = sum(type(each).__name__ == "HttpProtocol" for each in gc.get_objects())
    return Response(str(count))


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
        Route("/silent", Silent()),
        Route("/late", late, methods=["POST"]),
        Route("/behind", behind),
        Route("/remembered", remembered),
        WebSocketRoute("/socket", socket),
    ]
)
