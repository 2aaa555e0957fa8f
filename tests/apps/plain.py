"""A small ASGI application, for tests of the tests' own servers and clients."""

from __future__ import annotations

import os
from typing import Any

__all__ = ["app"]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """`/` answers hello, `/pid` answers the process's id, `/cut` fails after its first chunk."""
    if scope["type"] == "lifespan":
        await live(receive, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/cut":
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        raise RuntimeError("cut on purpose")
    body = str(os.getpid()).encode() if scope["path"] == "/pid" else b"hello"
    await send({"type": "http.response.body", "body": body})


async def live(receive: Any, send: Any) -> None:
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})
