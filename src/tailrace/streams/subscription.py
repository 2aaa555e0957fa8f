"""A response that sends a stream as it grows, in the format that its client asks for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.types import Message as ASGIMessage

from tailrace import limits
from tailrace.errors import (
    InvalidOffset,
    InvalidOption,
    OffsetGone,
    RunEnded,
    StoreUnavailable,
    StreamError,
    StreamGone,
    StreamNotFound,
)
from tailrace.live import Format, Gap, Hub, LiveResponse, Slow
from tailrace.protocol import Right, ask
from tailrace.responses import JSONArrayResponse, last_event_id
from tailrace.semantics import LIVE_HEADERS, SANDBOX_HEADERS, choose_media_type
from tailrace.store import (
    START,
    Mark,
    Offset,
    Retention,
    Slice,
    StreamInfo,
    Where,
    essence,
    is_json,
)
from tailrace.streams.answering import problem, problem_response
from tailrace.streams.core import Core
from tailrace.streams.formats import Events, Lines, Raw
from tailrace.streams.reading import Reader, parse_start

__all__ = ["Subscription"]

_ARRAY: Final = "application/json"
_EVENTS: Final = "text/event-stream"
_LINES: Final = ("application/jsonl", "application/x-ndjson")
_TEXT: Final = "text/plain"
# A client that accepts anything, as curl does, gets the first: readable, a line for each item.
_OF_JSON: Final = [*_LINES, _ARRAY, _EVENTS, _TEXT]
_OF_ALL: Final = [
    (name.encode(), value.encode()) for name, value in (*SANDBOX_HEADERS, *LIVE_HEADERS)
]
"""Header fields of every answer, unless the application has set them."""
_VARIES: Final = (b"vary", b"accept")


class Subscription(Response):
    """A stream, sent as it grows: as server-sent events, JSON Lines, a JSON array or its own bytes.

    Args:
        core: The core of the streams.
        path: The path of the stream.
        request: Its Accept chooses the format; its Last-Event-ID, or else its query parameter
            `offset`, says where to begin.
        start: Where to begin if the request does not say so.
        slow: What happens to a client that is too slow: "resume", "latest" or "disconnect".
        attend: Entered while the response is being sent.
        waits: If the stream does not exist yet, wait for it.
        end_mark: JSON Lines end with `{"end": {}}` when the stream is closed.

    Raises:
        InvalidOption: `slow` is none of the three.
    """

    def __init__(
        self,
        core: Core,
        path: str,
        request: Request,
        *,
        start: str,
        slow: str = "resume",
        attend: Callable[[], AbstractContextManager[None]] = nullcontext,
        waits: bool = False,
        end_mark: bool = False,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.raw_headers = []  # those that the application sets; the format adds its own
        self._core = core
        self._path = path
        self._request = request
        self._last = last_event_id(request.scope)
        self._start = request.query_params.get("offset") or start
        self._accept = ", ".join(request.headers.getlist("accept")) or None
        self._slow = _slow_of(slow)
        self._attend = attend
        self._waits = waits
        self._end_mark = end_mark

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = await self._refusal()
        if refusal is not None:
            await refusal(scope, receive, send)
        else:
            with nullcontext() if scope["method"] == "HEAD" else self._attend():
                await self._answer(scope, receive, send)
        if self.background is not None:
            await self.background()

    async def _refusal(self) -> ASGIApp | None:
        """The answer to a request that may not read the stream; None if it may."""
        try:
            await ask(self._core.authorize, self._request, (Right("read", self._path),))
        except StreamError as error:
            return problem(error)
        return None

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._choose()
        except (StreamError, StoreUnavailable) as error:
            response = problem(error)
        await response(scope, receive, send)

    async def _choose(self) -> ASGIApp:
        """The response that fits the request and the stream.

        Raises:
            StreamError, StoreUnavailable: Answered with a problem document instead.
        """
        hub = await self._core.hub()
        try:
            first, missed = await self._first(hub)
        except StreamGone:
            raise
        except StreamNotFound:
            if self._waits:
                return self._wait(hub)
            raise
        if self._last and missed is None and first.closed and not first.chunks:
            # This status tells an EventSource not to reconnect.
            return Response(status_code=204, headers={"cache-control": "no-store"})
        offered = _offered(first.info)
        media_type = choose_media_type(self._accept, offered)
        if media_type is None:
            return _not_acceptable(offered)
        json = is_json(first.info.content_type)
        if missed is not None and media_type not in (_EVENTS, *_LINES):
            # The chosen format cannot tell of a gap.
            raise OffsetGone(str(missed.start or "that event"), str(missed.end))
        if json and media_type == _ARRAY:
            return self._array(first.start)
        # A stream of bytes stays bytes, even if its type has the name of one of our formats.
        framed = media_type if json or media_type == _EVENTS else ""
        format = _format_of(framed, missed, self._end_mark)  # noqa: A001 - the word for it
        return self._live(hub, first, format)

    async def _first(self, hub: Hub) -> tuple[Slice, Gap | None]:
        """What the client gets first, and the gap before it if something is no longer retained.

        Raises:
            InvalidOffset, StreamNotFound, StoreUnavailable: As `_choose`.
        """
        start = parse_start(self._start)
        if self._last is None:
            return await self._read(hub, start)
        try:
            return await self._read(hub, parse_start(self._last))
        except InvalidOffset:
            # The id is that of another server or stream, and a browser sends it again and again.
            first, missed = await self._read(hub, start)
            return first, missed or Gap(None, first.start)

    async def _read(self, hub: Hub, where: Where) -> tuple[Slice, Gap | None]:
        try:
            return await hub.read(self._path, where, limits.CATCH_UP_BYTES), None
        except OffsetGone:
            if not isinstance(where, Offset):
                raise
            # The client is told of the gap, and goes on with what is retained.
            first = await hub.read(self._path, Mark.BEGINNING, limits.CATCH_UP_BYTES)
            return first, Gap(where, first.start)

    def _wait(self, hub: Hub) -> ASGIApp:
        """The response for a stream that does not exist yet; it is treated as a JSON stream."""
        media_type = choose_media_type(self._accept, _OF_JSON)
        if media_type is None:
            return _not_acceptable(_OF_JSON)
        if media_type == _ARRAY:
            return self._array(Mark.BEGINNING, waits=True)
        format = _format_of(media_type, None, self._end_mark)  # noqa: A001 - the word for it
        return self._live(hub, Slice(_to_be(self._path), START, ()), format)

    def _live(self, hub: Hub, start: Where | Slice, format: Format) -> LiveResponse:  # noqa: A002
        options = self._core.options
        response = LiveResponse(hub, self._path, start, format, slow=self._slow, options=options)
        response.raw_headers = [_VARIES, *self.raw_headers]  # a name may occur twice
        return response

    def _array(self, where: Where, *, waits: bool = False) -> ASGIApp:
        reader = Reader(self._core, self._path, where, follow=True, waits=waits)
        options = self._core.options
        response = _Array(_Values(reader), options=options)
        given = {name for name, _ in self.raw_headers}
        set_here = given.union(name for name, _ in _OF_ALL)
        own = [field for field in response.raw_headers if field[0] not in set_here]
        of_all = [field for field in _OF_ALL if field[0] not in given]
        response.raw_headers = [*own, *of_all, _VARIES, *self.raw_headers]
        return response


class _Array(JSONArrayResponse):
    """A JSON array, or an ordinary error response if the run failed before its first item."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def sending(message: ASGIMessage) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await super().__call__(scope, receive, sending)
        except (RunEnded, StreamError, StoreUnavailable) as error:
            # An array that has begun cannot say how the run ended: the connection is cut.
            if begun:
                raise
            await problem(error)(scope, receive, send)


class _Values(AsyncIterator[Any]):
    """The messages of a reader, as elements of an array."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.aclose = reader.aclose

    async def __anext__(self) -> Any:
        message = await anext(self._reader)
        if message.event is None:
            return message.data
        return {"event": message.event, "data": message.data}


def _slow_of(policy: str) -> Slow:
    """The policy for slow clients that has this name.

    Raises:
        InvalidOption: There is no such policy.
    """
    try:
        return Slow(policy)
    except ValueError:
        names = ", ".join(f'"{each.value}"' for each in Slow)
        raise InvalidOption("slow", policy, names) from None


def _to_be(path: str) -> StreamInfo:
    """What a stream will be that does not exist yet: the first append creates a JSON stream."""
    return StreamInfo(
        path=path,
        content_type="application/json",
        first=START,
        tail=START,
        closed=False,
        ttl=None,
        expires_at=None,
        retention=Retention(),
        forked_from=None,
        created_at=0,
    )


def _offered(info: StreamInfo) -> list[str]:
    return _OF_JSON if is_json(info.content_type) else [essence(info.content_type), _EVENTS]


def _format_of(media_type: str, missed: Gap | None, end_mark: bool) -> Format:
    if media_type == _EVENTS:
        return Events(missed=missed)
    if media_type in _LINES:
        return Lines(end_mark=end_mark, missed=missed)
    return Raw()


def _not_acceptable(offered: list[str]) -> Response:
    detail = f"none of the formats fits the Accept header; offered: {', '.join(offered)}"
    return problem_response(406, "not_acceptable", detail, offered=offered)
