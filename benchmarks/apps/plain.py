"""The Starlette application of the rows with plain streams, for either response class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from benchmarks.apps import sources

_COUNTED: Final[dict[str, Callable[[int], Any]]] = {
    "/numbers": sources.numbers,
    "/numbers-async": sources.numbers_async,
    "/numbers-with-turns": sources.numbers_with_turns,
    "/big": sources.big_chunks,
    "/stall": sources.stall_chunks,
}
"""The sources that take `?count=`."""

_FIXED: Final[dict[str, Callable[[], Any]]] = {
    "/file": sources.file_chunks,
    "/first": sources.first_then_wait,
    "/first-sync": sources.first_then_wait_sync,
    "/short": sources.short,
    "/short-sync": sources.short_sync,
    "/idle": sources.one_then_idle,
}


def build(streaming: type[StreamingResponse]) -> Starlette:
    """An application in which every endpoint answers with the class `streaming`."""

    def counted(source: Callable[[int], Any]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            count = int(request.query_params["count"])
            return streaming(source(count), media_type="text/plain")

        return endpoint

    def fixed(source: Callable[[], Any]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            return streaming(source(), media_type="text/plain")

        return endpoint

    routes = [Route(path, counted(source)) for path, source in _COUNTED.items()]
    routes += [Route(path, fixed(source)) for path, source in _FIXED.items()]
    return Starlette(routes=routes)
