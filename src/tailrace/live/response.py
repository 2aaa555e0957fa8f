"""`LiveResponse`: a stream as an HTTP response that goes on as the stream grows."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.background import BackgroundTask
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tailrace import limits
from tailrace.connection import Ending
from tailrace.live.cursor import ReadCursor, Slow
from tailrace.live.format import Format
from tailrace.live.hub import Hub
from tailrace.live.live_stream import LiveStream
from tailrace.live.reader import LiveReader
from tailrace.pump import Head, send_whole
from tailrace.responses import options_of_app, release_dependencies, run_background
from tailrace.semantics import SANDBOX_HEADERS
from tailrace.store import Slice, StreamInfo, Where
from tailrace.types import StreamOptions

__all__ = ["LiveResponse"]


class LiveResponse(Response):
    """Send a stream from a position on, and what is appended to it, as it is appended.

    The first read is done before the first byte is sent, so the status is truthful: without the
    stream, `StreamNotFound`, `OffsetGone` or `InvalidOffset` is raised out of the response, and an
    ordinary error response can be sent. A caller that has read already (to answer otherwise, or to
    choose the format by what was found) gives that slice as `start`, and nothing is raised.

    HEAD sends the headers only. The bytes are the same for many, so they are not compressed.

    Args:
        hub: Of the store that has the stream.
        path: The stream.
        start: Where to begin, or what was read there. If that is a slice of a stream without a
            generation, the stream does not exist yet: the response begins, and waits for it.
        format: What its bytes are made of.
        options: `send_timeout`, `heartbeat` and `release_dependencies`; None takes
            `app.state.stream_options`, or the defaults.
        lifetime: Seconds after which the response ends in order; None: it lasts as long as the
            stream. Draw them at random, or clients that came together come back together.
        slow: What becomes of a reader that is too slow.
        headers: They replace those of the format.
        background: Runs once when the response is over, whether the client stayed or left.
    """

    def __init__(
        self,
        hub: Hub,
        path: str,
        start: Where | Slice,
        format: Format,  # noqa: A002 - the word for it
        *,
        options: StreamOptions | None = None,
        lifetime: float | None = None,
        slow: Slow = Slow.RESUME,
        headers: Mapping[str, str] | None = None,
        background: BackgroundTask | None = None,
    ) -> None:
        self.status_code = 200
        self.background = background
        self._hub = hub
        self._path = path
        self._start = start
        self._format = format
        self._options = options
        self._lifetime = lifetime
        self._slow = slow
        self.raw_headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in (headers or {}).items()
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        live = self._hub.join(self._path)
        try:
            ending = await self._respond(await self._read(), live, scope, receive, send)
        finally:
            self._hub.leave(live)
        await run_background(self.background, ending)

    async def _read(self) -> Slice:
        start = self._start
        if isinstance(start, Slice):
            self._start = start.start  # what it holds is sent once and not kept
            return start
        return await self._hub.read(self._path, start, limits.CATCH_UP_BYTES)

    async def _respond(
        self, first: Slice, live: LiveStream, scope: Scope, receive: Receive, send: Send
    ) -> Ending:
        options = self._options or options_of_app(scope)
        headers = self.headers_of(first.info)
        head = Head(self.status_code, headers)
        if scope["method"] == "HEAD":
            return await send_whole(b"", options, head, scope, receive, send)
        if options.release_dependencies:
            await release_dependencies(scope)
        cursor = ReadCursor(live, first, self._slow)
        reader = LiveReader(
            self._hub, cursor, self._format, options, self._lifetime, scope, receive, send
        )
        reader.begin_with(head, first)
        del head, headers, first  # or they are held for as long as the response lasts
        return await reader.run()

    def headers_of(self, info: StreamInfo) -> list[tuple[bytes, bytes]]:
        """All header fields of the answer.

        Args:
            info: The stream; its creator has chosen its type.
        """
        given = {name for name, _ in self.raw_headers}
        own = [
            (name.encode("latin-1"), value.encode("latin-1"))
            for name, value in (*self._format.headers(info), *SANDBOX_HEADERS)
        ]
        return [field for field in own if field[0] not in given] + self.raw_headers
