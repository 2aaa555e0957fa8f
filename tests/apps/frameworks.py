"""`Files` and `streams.asgi()`, mounted in frameworks that are not built on Starlette.

The environment variable `FRAMEWORK` is the name of the framework, `FOLDER` the path of what is
served at `/files/`. Streams are at `/v1/stream/`. `/own` is an endpoint of the framework itself.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import JSONResponse

from tailrace import Files, Streams
from tailrace.connection import answer_lifespan, is_clear
from tailrace.protocol import ProtocolOptions

__all__ = ["FRAMEWORKS"]

urlpatterns: list[Any] = []
"""The routes of Django, which looks for them under this name."""

FILES, STREAMS, CLEAR = "/files", "/v1/stream", "/clear"

files = Files(os.environ.get("FOLDER", "."))
streams = Streams("memory://")
options = ProtocolOptions(forks=True)


async def clear(scope: Any, receive: Any, send: Any) -> None:
    """Tells whether `send` leads to the server without a middleware that may read bodies."""
    if scope["type"] == "lifespan":
        await answer_lifespan(receive, send)
    else:
        await JSONResponse(is_clear(send))(scope, receive, send)


def litestar() -> Any:
    from litestar import Litestar, asgi, get

    @get("/own")
    async def own() -> str:
        return "own"

    def mounted(path: str, app: Any) -> Any:
        async def handler(scope: Any, receive: Any, send: Any) -> None:
            await app(scope, receive, send)

        handler.__annotations__ = {"scope": Any, "receive": Any, "send": Any, "return": None}
        return asgi(path, is_mount=True, copy_scope=True)(handler)

    handlers = [own, mounted(FILES, files), mounted(STREAMS, streams.asgi(options))]
    handlers.append(mounted(CLEAR, clear))
    return Litestar(handlers, lifespan=[streams.lifespan])


def quart() -> Any:
    from hypercorn.middleware import DispatcherMiddleware
    from quart import Quart

    app = Quart(__name__)

    @app.get("/own")
    async def own() -> str:
        return "own"

    @app.while_serving  # type: ignore[type-var] # quart takes any
    async def serving() -> AsyncIterator[None]:
        async with streams:
            yield

    mounts: dict[str, Any] = {
        FILES: files,
        STREAMS: streams.asgi(options),
        CLEAR: clear,
        "": app,
    }
    return DispatcherMiddleware(mounts)


def django() -> Any:
    from django.conf import settings
    from django.core.asgi import get_asgi_application
    from django.http import HttpResponse
    from django.urls import path
    from starlette.applications import Starlette
    from starlette.routing import Mount

    async def own(request: Any) -> HttpResponse:
        return HttpResponse("own")

    urlpatterns.append(path("own", own))
    settings.configure(ROOT_URLCONF=__name__, SECRET_KEY="of a test", ALLOWED_HOSTS=["*"])
    routes = [
        Mount(FILES, files),
        Mount(STREAMS, streams.asgi(options)),
        Mount(CLEAR, clear),
        Mount("/", get_asgi_application()),
    ]
    return Starlette(routes=routes, lifespan=streams.lifespan)


def blacksheep() -> Any:
    from blacksheep import Application, get

    app = Application()

    @get("/own")
    async def own() -> str:
        return "own"

    @app.lifespan  # type: ignore[untyped-decorator]
    async def serving() -> AsyncIterator[None]:
        async with streams:
            yield

    app.mount(FILES, files)
    app.mount(STREAMS, streams.asgi(options))
    app.mount(CLEAR, clear)
    return app


FRAMEWORKS = {each.__name__: each for each in (litestar, quart, django, blacksheep)}


if (framework := os.environ.get("FRAMEWORK")) is not None:
    app = FRAMEWORKS[framework]()
