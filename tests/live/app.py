"""An application with live streams, for tests over real sockets."""

from __future__ import annotations

import logging

from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tailrace.connection import stats
from tailrace.live import Format, Hub, LiveResponse, Slow
from tailrace.store import Append, Mark, MemoryStore, NewStream, Offset
from tailrace.streams.formats import Events, Lines, Raw
from tailrace.types import StreamOptions
from tests.live.formats import Traced

logging.getLogger("tailrace").setLevel(logging.INFO)
logging.getLogger("tailrace").addHandler(logging.StreamHandler())

_FORMATS: dict[str, Format] = {
    "events": Events(),
    "lines": Lines(),
    "raw": Raw(),
    "silent": Traced(begins=False),
    "traced": Traced(),
}
_store = MemoryStore()
_hub = Hub(_store)


async def read(request: Request) -> Response:
    query = request.query_params
    start = query.get("from", "-1")
    return LiveResponse(
        _hub,
        request.path_params["path"],
        Mark(start) if start in ("-1", "now") else Offset.parse(start),
        _FORMATS[query.get("format", "traced")],
        slow=Slow(query.get("slow", "resume")),
        options=StreamOptions(send_timeout=float(query.get("send_timeout", 30))),
        lifetime=float(query["lifetime"]) if "lifetime" in query else None,
    )


async def create(request: Request) -> Response:
    new = NewStream(content_type=request.headers.get("content-type"))
    await _store.create(request.path_params["path"], new)
    return Response(status_code=201)


async def append(request: Request) -> Response:
    data = await request.body()
    data *= int(request.query_params.get("times", 1))
    asked = Append(data=data, close="close" in request.query_params)
    done = await _store.append(request.path_params["path"], asked)
    return JSONResponse({"tail": done.tail.position})


async def state(request: Request) -> Response:
    now = stats()
    return JSONResponse(
        {"watched": len(_hub), "open": now.open, "left": now.left, "stalled": now.stalled}
    )


class Passing(BaseHTTPMiddleware):
    """A middleware as Starlette advises to write it, which replaces `receive` and `send`."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


app = Starlette(
    routes=[
        Route("/-state", state),
        Route("/{path}", read),
        Route("/{path}", create, methods=["PUT"]),
        Route("/{path}", append, methods=["POST"]),
    ]
)
passed = Passing(app)
