"""Answers an error of a stream that an endpoint does not catch with the status of that error.

An application that uses streams only says `lifespan=streams.lifespan`. When that is called, the
application has built its middleware, and `add_exception_handler` has no effect any more. So the
application's router, the innermost layer, is wrapped. The wrapper adds to the handlers that
Starlette looks up when an endpoint raises. A handler that the application registered for these
errors takes precedence.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Iterator
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tailrace.connection import log
from tailrace.errors import AccessRefused, OffsetGone, StoreUnavailable, StreamError, TailraceError
from tailrace.protocol import fields_of_refusal
from tailrace.pump import name_of
from tailrace.semantics import PROBLEM, SANDBOX_HEADERS, detail_of, problem_document

__all__ = ["answer_errors", "problem", "problem_response"]


def answer_errors(app: Any) -> None:
    """Let an application, and those mounted in it, answer errors of streams with their status.

    Args:
        app: What a lifespan is given. If it is no application of Starlette, nothing is done.
    """
    for each in _applications(app):
        router = each.router
        if not isinstance(router.middleware_stack, _Answering):  # two `Streams` share it
            router.middleware_stack = _Answering(router.middleware_stack)


def problem(error: TailraceError) -> Response:
    """The problem document of an error.

    Source: RFC 9457.
    """
    more = {"first": error.first} if isinstance(error, OffsetGone) else {}
    response = problem_response(error.status, error.code, detail_of(error), **more)
    if isinstance(error, AccessRefused):
        response.raw_headers += fields_of_refusal(error)
    return response


def problem_response(status: int, code: str, detail: str, **members: Any) -> Response:
    """A problem document; `members` are added to the standard ones."""
    document = problem_document(status, code, detail, **members)
    headers = {**dict(SANDBOX_HEADERS), "vary": "accept", "cache-control": "no-store"}
    return Response(json.dumps(document), status, headers=headers, media_type=PROBLEM)


class _Answering:
    """Wraps a router: adds to the exception handlers that Starlette looks up where it calls an
    endpoint.

    It does not catch the errors itself. For that it would need a `send` of its own, and behind that
    the responses would not find the connection. It is not `async` either: Python would pass through
    its coroutine each time that the response is resumed.
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        handlers, _ = scope.get("starlette.exception_handlers", ({}, {}))
        for kind in (StreamError, StoreUnavailable):
            # The application's own handler for these errors, or for all of ours, takes precedence.
            if kind not in handlers and TailraceError not in handlers:
                handlers[kind] = _answer
        return self._app(scope, receive, send)


async def _answer(request: Request, error: Exception) -> Response:
    assert isinstance(error, TailraceError)
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("%s: %s", name_of(request.scope), error, exc_info=error)
    return problem(error)


def _applications(app: Any) -> Iterator[Starlette]:
    while app is not None and not isinstance(app, Starlette):
        app = getattr(app, "app", None)  # a middleware around a mounted application
    if app is None:
        return
    yield app
    for route in app.routes:
        yield from _applications(getattr(route, "app", None) if hasattr(route, "routes") else None)
