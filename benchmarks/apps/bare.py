"""The smallest ASGI application that streams: the first byte of others is compared with its."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from benchmarks.apps import sources

_HEADERS = [(b"content-type", b"text/plain; charset=utf-8")]


async def app(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    """Send the first chunk, wait `sources.FIRST_BYTE_PAUSE`, send the second."""
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": sources.FIRST, "more_body": True})
    await asyncio.sleep(sources.FIRST_BYTE_PAUSE)
    await send({"type": "http.response.body", "body": sources.SECOND, "more_body": False})
