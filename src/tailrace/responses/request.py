"""What a response needs of the request that it answers, and of the application around it.

**The applications that a request came through**, for a setting that holds for all that is in one.
Starlette's scope names the application that answers (`app`; an outer one is written over) and the
outermost router (`router`). FastAPI's router knows its application. The others are found only in
the frames of the callers, up to a middleware that calls in a task of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any, Final

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from tailrace import limits
from tailrace.connection import Ending
from tailrace.errors import InvalidOption, SourceBusy
from tailrace.types import StreamOptions

__all__ = [
    "answer_busy",
    "check_options",
    "options_of_app",
    "release_dependencies",
    "run_background",
]

_FRAMES: Final = 256
"""How many callers are looked at; an application is about ten deep, and its middlewares."""

_HANDLERS: Final = "starlette.exception_handlers"
"""What Starlette's scope holds from its `ExceptionMiddleware` on."""

_DEFAULTS: Final = StreamOptions()


def options_of_app(scope: Scope) -> StreamOptions:
    """The settings of the application that a request is for, of one around it, or the defaults."""
    for app in _applications_of(scope):
        options = getattr(getattr(app, "state", None), "stream_options", None)
        if options is not None:
            return check_options(options, "app.state.stream_options")
    return _DEFAULTS


def check_options(options: Any, name: str = "options") -> StreamOptions:
    """The settings that an application gave.

    Raises:
        InvalidOption: They are something else.
    """
    if not isinstance(options, StreamOptions):
        raise InvalidOption(name, options, "a StreamOptions")
    return options


def _applications_of(scope: Scope) -> Iterator[Any]:
    """The application that answers, then those in which it is mounted, from the inside out."""
    app, outermost = scope.get("app"), scope.get("router")
    yield app
    if outermost is None or outermost is getattr(app, "router", None):
        return
    yield from _callers(app)
    yield getattr(outermost, "dependency_overrides_provider", None)


def _callers(app: Any) -> Iterator[Starlette]:
    frame = sys._getframe(1)
    for _ in range(_FRAMES):
        if frame.f_code.co_name == "__call__":
            found = frame.f_locals.get("self")
            if isinstance(found, Starlette) and found is not app:
                yield found
        if frame.f_back is None:
            return
        frame = frame.f_back


async def release_dependencies(scope: Scope) -> None:
    """Run what follows the `yield` of the request's dependencies now, in this task.

    FastAPI keeps them on an exit stack in the scope and closes it after the response; a stack that
    was closed before has nothing left to do then. Without FastAPI there is none.

    Raises:
        BaseException: What a dependency raised; nothing has been sent yet.
    """
    stack = scope.get("fastapi_inner_astack")
    if isinstance(stack, AsyncExitStack):
        await stack.aclose()


async def run_background(background: BackgroundTask | None, ending: Ending) -> None:
    """Run a response's background task, whether the client stayed or left.

    It does not run if the response was cancelled: then something waits for its end.
    """
    if background is not None and ending is not Ending.CANCELLED:
        await background()


async def answer_busy(
    error: SourceBusy, scope: Scope, receive: Receive | None, send: Send
) -> Ending:
    """Answer 503 for a sync source that got no thread in time.

    Raises:
        HTTPException: 503 where an application has handlers, which say how it looks. What one of
            its middlewares answers in its place is outside of those.

    Source: RFC 9110 15.6.4 and 10.2.3.
    """
    headers = {"retry-after": str(limits.SYNC_SOURCE_RETRY_AFTER)}
    if _HANDLERS in scope and scope["type"] == "http":  # for a WebSocket they send nothing
        raise HTTPException(error.status, str(error), headers) from error
    answer = PlainTextResponse(str(error), error.status, headers)
    await answer({**scope, "type": "http"}, receive or _nothing, send)
    return Ending.REFUSED


async def _nothing() -> dict[str, str]:
    raise AssertionError("an answer that is whole reads nothing")
