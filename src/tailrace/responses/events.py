"""`EventSourceResponse`: server-sent events."""

from __future__ import annotations

from typing import Any

from starlette.types import Scope

from tailrace.framing import Framing, ServerSentEvents
from tailrace.responses.stream import StreamingResponse
from tailrace.source import Source, open_source

__all__ = ["EventSourceResponse", "last_event_id"]


class EventSourceResponse(StreamingResponse):
    """Send events to a browser's EventSource, or to any client that reads `text/event-stream`.

    Args:
        content: A sync or async iterable of `Event`, str, bytes, anything that pydantic can write
            as JSON, or the event classes of FastAPI and sse-starlette. Or a function that takes
            the request's Last-Event-ID (None the first time) and gives such an iterable.
        end_mark: End with an event named "end" if the content ended well, so that a page knows a
            whole stream from one that was cut.
        status_code, headers, media_type, background, options, filename, content_disposition_type:
            As in `StreamingResponse`.

    The response is not stored by caches nor buffered by nginx, sends a comment after each
    `heartbeat` seconds of silence, ends an error with an `error` event, and at shutdown says
    farewell with an event that tells the client when to come back.

    Source: WHATWG HTML, 9.2 Server-sent events.
    """

    media_type = "text/event-stream"
    utf8_only = True

    def make_framing(self) -> Framing:
        return ServerSentEvents(end_mark=self._end_mark or False)

    def _set_content(self, content: Any) -> None:
        self._resume = content if _takes_last_event_id(content) else None
        super()._set_content(() if self._resume else content)

    def _open(self, scope: Scope) -> Source:
        if self._resume is None or scope.get("method") == "HEAD":  # which runs nothing
            return super()._open(scope)
        return open_source(self._resume(last_event_id(scope)))


def last_event_id(scope: Scope) -> str | None:
    """The id of the last event that a client has, or None if it says none.

    Any text may be there: that of another server, or of an older version of this one. To refuse it
    would end a browser's EventSource for good.

    Source: WHATWG HTML 9.2.3 (it is UTF-8, unlike other headers).
    """
    for name, value in scope["headers"]:
        if name == b"last-event-id":
            return value.decode("utf-8", "replace") or None
    return None


def _takes_last_event_id(content: Any) -> bool:
    return (
        callable(content) and not hasattr(content, "__iter__") and not hasattr(content, "__aiter__")
    )
