"""`EventSourceResponse`: server-sent events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Never

from starlette.background import BackgroundTask
from starlette.types import Scope

from tailrace.framing import Framing, ServerSentEvents
from tailrace.responses.stream import StreamingResponse
from tailrace.source import Source, open_source
from tailrace.types import StreamOptions

__all__ = ["EventSourceResponse", "last_event_id"]

_OURS: Final = {
    "ping": "options=StreamOptions(heartbeat=...)",
    "ping_message_factory": "heartbeat_text=",
    "sep": "nothing: every client reads lines that end with LF",
    "data_sender_callable": "a source that yields what it would send",
    "send_timeout": "options=StreamOptions(send_timeout=...)",
    "client_close_handler_callable": "a `finally` in the source, or background=",
    "shutdown_event": "tailrace.shutdown_event() in the source",
    "shutdown_grace_period": "options=StreamOptions(shutdown_grace=...)",
    "cleanup_timeout": "options=StreamOptions(cleanup_timeout=...)",
}
"""What stands here for an argument of sse-starlette."""


class EventSourceResponse(StreamingResponse):
    """Send events to a browser's EventSource, or to any client that reads `text/event-stream`.

    Args:
        content: A sync or async iterable of `Event`, str, bytes, anything that pydantic can write
            as JSON, or the event classes of FastAPI and sse-starlette. Or a function that takes
            the request's Last-Event-ID (None the first time) and gives such an iterable.
        heartbeat_text: The text of the comment that is sent after a silence; None is the class's
            own, for a subclass that is the `response_class` of `yield` endpoints.
        end_mark: End with an event named "end" if the content ended well, so that a page can tell a
            whole stream from one that was cut.
        status_code, headers, media_type, background, options, filename, content_disposition_type:
            As in `StreamingResponse`.

    The status line is sent at once, even if the first event comes late, unless the options have a
    `start_grace`. An error that the source raises before it has waited for anything, or within the
    `start_grace`, is an ordinary error response.

    The response is not stored by caches nor buffered by nginx, sends a comment after each
    `heartbeat` seconds of silence, ends an error with an `error` event, and at shutdown says
    farewell with an event that tells the client when to come back.

    Raises:
        TypeError: An argument that this class does not have; the message says what to use in its
            place, where it is one of sse-starlette's.

    Source: WHATWG HTML, 9.2 Server-sent events.
    """

    media_type = "text/event-stream"
    utf8_only = True
    heartbeat_text: str | None = None

    def __init__(
        self,
        content: Any,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
        background: BackgroundTask | None = None,
        *,
        options: StreamOptions | None = None,
        filename: str | None = None,
        content_disposition_type: str = "attachment",
        end_mark: bool = False,
        heartbeat_text: str | None = None,
        **theirs: Never,
    ) -> None:
        if theirs:
            raise TypeError(_refusal(type(self).__name__, next(iter(theirs))))
        if heartbeat_text is not None:
            self.heartbeat_text = heartbeat_text
        super().__init__(
            content,
            status_code,
            headers,
            media_type,
            background,
            options=options,
            filename=filename,
            content_disposition_type=content_disposition_type,
            end_mark=end_mark,
        )

    def make_framing(self) -> Framing:
        return ServerSentEvents(heartbeat_text=self.heartbeat_text, end_mark=self._end_mark)

    def _set_content(self, content: Any) -> None:
        self._resume = content if _takes_last_event_id(content) else None
        super()._set_content(_Unmade() if self._resume else content)

    def _open(self, scope: Scope) -> Source:
        if self._resume is None or scope.get("method") == "HEAD":  # which runs nothing
            return super()._open(scope)
        return open_source(self._resume(last_event_id(scope)))


class _Unmade:
    """Stands for what the function gives once the request is known. `body_iterator` leads here."""

    def __iter__(self) -> Never:
        raise TypeError(
            "the content is a function that takes the request's Last-Event-ID: there is nothing to "
            "iterate yet. Wrap what the function returns"
        )


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


def _refusal(name: str, argument: str) -> str:
    """As Python refuses an argument, and what to write where it is one of sse-starlette."""
    words = f"{name}() got an unexpected keyword argument {argument!r}"
    if argument not in _OURS:
        return words
    instead = f"in place of that argument of sse-starlette use {_OURS[argument]}"
    return f"{words}: {instead}; or use tailrace.compat.sse_starlette, which accepts it"


def _takes_last_event_id(content: Any) -> bool:
    return (
        callable(content) and not hasattr(content, "__iter__") and not hasattr(content, "__aiter__")
    )
