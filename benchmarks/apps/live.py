"""Streams in a store in memory, one for each path, read live: only `LiveResponse`, no framework.

`PUT /NAME` creates a stream. `POST /NAME` appends the body to it, as a JSON string. `GET /NAME`
subscribes from the tail, `GET /NAME?from=start` from the first byte.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.types import Receive, Scope, Send

from tailrace.live import Hub, LiveResponse
from tailrace.store import Append, Mark, MemoryStore, NewStream
from tailrace.streams.formats import Events

_JSON = "application/json"
_store = MemoryStore()
_hub = Hub(_store)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    path = scope["path"][1:]
    if scope["method"] == "GET":
        start = Mark.BEGINNING if b"from=start" in scope["query_string"] else Mark.TAIL
        await LiveResponse(_hub, path, start, Events())(scope, receive, send)
        return
    body = await _body_of(receive)
    if scope["method"] == "PUT":
        await _store.create(path, NewStream(content_type=_JSON))
    else:
        await _store.append(path, Append(data=json.dumps(body.decode()).encode() + b","))
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def _body_of(receive: Receive) -> bytes:
    parts: list[bytes] = []
    more = True
    while more:
        message: Any = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)
