"""`Streams.router()`: the protocol as something that FastAPI includes; the only file that knows it.

FastAPI includes an `APIRouter`, with a prefix and with dependencies. Its way through one route (the
dependency machinery, a response object) costs as much as an append does, so the one route here goes
straight to the ASGI application behind it; unless there is something to do first. Dependencies are
most likely there to keep somebody out: then the request takes FastAPI's way, and so it does where a
limit was set for its body.
"""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["APIRouter", "router_of"]

_METHODS: Final = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"]
"""All: those that streams do not have are refused by the protocol, in its own words."""


def router_of(app: ASGIApp) -> APIRouter:
    """A router that gives every path to an ASGI application, as if it were mounted."""

    async def endpoint() -> Response:
        return _Passed(app)

    class Route(_Route):
        below = staticmethod(app)

    router = APIRouter(route_class=Route)
    router.add_api_route("/{path:path}", endpoint, methods=_METHODS, include_in_schema=False)
    return router


class _Route(APIRoute):
    """A route that goes straight to an application, where nothing is to be done first."""

    below: ASGIApp

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = _effective(self, scope)
        if route.dependant.dependencies or getattr(route, "max_body_size", None) is not None:
            await super().handle(scope, receive, send)
        else:
            await self.below(_mounted(scope), receive, send)


class _Passed(Response):
    """The application's answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.background = None
        self.raw_headers = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(_mounted(scope), receive, send)


def _effective(route: APIRoute, scope: Scope) -> Any:
    """What FastAPI has made of a route in the router that includes it; else the route."""
    context = scope.get("fastapi", {}).get("effective_route_context")
    return context if getattr(context, "original_route", None) is route else route


def _mounted(scope: Scope) -> Scope:
    """The scope as a mount would give it: what is above the path is the root."""
    below: str = scope["path_params"]["path"]
    path: str = scope["path"]
    root = path[: len(path) - len(below) - 1]
    outer: str = scope.get("app_root_path", scope.get("root_path", ""))
    if not f"{root}/".startswith(f"{outer}/"):
        root = outer + root  # what a proxy has taken off the path
    return {**scope, "root_path": root, "app_root_path": outer}
