"""A source as a response, or 503 where it could not begin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from tailrace import limits, pump
from tailrace.connection import Ending
from tailrace.errors import SourceBusy
from tailrace.framing import Codec, Framing
from tailrace.pump import Head
from tailrace.source import Source
from tailrace.types import StreamOptions

__all__ = ["serve"]

_HANDLERS: Final = "starlette.exception_handlers"
"""What Starlette's scope holds from its `ExceptionMiddleware` on."""


async def serve(
    source: Source,
    framing: Framing,
    make_codec: Callable[[], Codec] | None,
    options: StreamOptions,
    head: Head,
    scope: Scope,
    receive: Receive | None,
    send: Send,
) -> Ending:
    """As `pump.serve`; a sync source that got no thread in time is answered by 503.

    Raises:
        HTTPException: 503 where an application has handlers, which say how it looks. What one of
            its middlewares answers in its place is outside of those.

    Source: RFC 9110 15.6.4 and 10.2.3.
    """
    try:
        return await pump.serve(source, framing, make_codec, options, head, scope, receive, send)
    except SourceBusy as error:
        headers = {"retry-after": str(limits.SYNC_SOURCE_RETRY_AFTER)}
        if _HANDLERS in scope and scope["type"] == "http":  # for a WebSocket they send nothing
            raise HTTPException(error.status, str(error), headers) from error
        answer = PlainTextResponse(str(error), error.status, headers)
        await answer({**scope, "type": "http"}, receive or _nothing, send)
        return Ending.REFUSED


async def _nothing() -> dict[str, str]:
    raise AssertionError("an answer that is whole reads nothing")
