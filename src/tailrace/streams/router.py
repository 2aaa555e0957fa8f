"""`Streams.router()`: the protocol as a router that a FastAPI application includes.

FastAPI includes an `APIRouter`, with a prefix and with dependencies. Its own handling of a route
(solving dependencies, making a response object) costs as much as an append does. So the only route
here calls the ASGI application behind it directly. FastAPI handles the request only if the router
has a limit for the body, or dependencies, which most likely refuse some clients.

This is the only file of the package that imports FastAPI.
"""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["APIRouter", "router_of"]

_METHODS: Final = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"]
"""All methods: the protocol itself refuses those that streams do not have."""


def router_of(app: ASGIApp) -> APIRouter:
    """A router that passes every path to an ASGI application, as if that were mounted."""

    async def endpoint() -> Response:
        return _Passed(app)

    class Route(_Route):
        below = staticmethod(app)

    router = APIRouter(route_class=Route)
    router.add_api_route("/{path:path}", endpoint, methods=_METHODS, include_in_schema=False)
    return router


class _Route(APIRoute):
    """A route that calls an ASGI application directly, unless FastAPI has something to do first."""

    below: ASGIApp

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = _effective(self, scope)
        if route.dependant.dependencies or getattr(route, "max_body_size", None) is not None:
            await super().handle(scope, receive, send)
        else:
            await self.below(_mounted(scope), receive, send)


class _Passed(Response):
    """A response that the application behind the route sends."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.background = None
        self.raw_headers = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(_mounted(scope), receive, send)


def _effective(route: APIRoute, scope: Scope) -> Any:
    """The route with what the including router has added (dependencies, limits), if anything."""
    context = scope.get("fastapi", {}).get("effective_route_context")
    return context if getattr(context, "original_route", None) is route else route


def _mounted(scope: Scope) -> Scope:
    """The scope as a mount would make it: what comes before the path is the root path."""
    below: str = scope["path_params"]["path"]
    path: str = scope["path"]
    root = path[: len(path) - len(below) - 1]
    outer: str = scope.get("app_root_path", scope.get("root_path", ""))
    if not f"{root}/".startswith(f"{outer}/"):
        root = outer + root  # a proxy has removed the outer root from the path
    return {**scope, "root_path": root, "app_root_path": outer}
