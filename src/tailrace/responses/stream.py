"""`StreamingResponse`: Starlette's, with Tailrace's pump behind it.

Where it differs from Starlette's on purpose (docs/differences.md has the tests):

* A client that leaves is not an error: no `ClientDisconnect` is raised, and background tasks run.
* Small chunks are put together, large ones are cut; the bytes are the same.
* HEAD sends the headers and runs nothing.
* A str or bytes is one chunk, not one for each character.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any

import starlette.responses
from starlette.background import BackgroundTask
from starlette.types import Receive, Scope, Send

from tailrace.errors import InvalidOption, SourceSpent
from tailrace.framing import Framing, Raw
from tailrace.pump import Ending, Head, name_of, send_whole
from tailrace.responses.busy import serve
from tailrace.responses.declared import Filtered, filter_of
from tailrace.responses.dependencies import release_dependencies
from tailrace.responses.encoding import Encoding, encoding_for
from tailrace.source import Source, iterate_in_threads, open_source
from tailrace.types import StreamOptions

__all__ = ["StreamingResponse", "options_of_app"]


class StreamingResponse(starlette.responses.StreamingResponse):
    """Send what a generator yields, as it yields it.

    Chunks that are ready together are sent together, the first one at once; the generator is always
    closed; an error before the first chunk is an ordinary error response, and after it the
    connection is cut so that the client can tell; a client that stops reading is cut off.

    Args:
        content: A sync or async iterable of str, bytes, bytearray or memoryview. A sync one runs in
            a thread of its own kind, so it may block.
        status_code: The HTTP status.
        headers: Response headers.
        media_type: The Content-Type; text types get a charset.
        background: Runs once after the content was closed, whether the client stayed or left.
        options: The settings; None takes `app.state.stream_options`, or the defaults.

    Raises:
        TypeError: The content cannot be iterated.
    """

    def __init__(
        self,
        content: Any,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
        background: BackgroundTask | None = None,
        *,
        options: StreamOptions | None = None,
    ) -> None:
        self.options = None if options is None else _checked(options, "options")
        self.status_code = status_code
        self.media_type = self.media_type if media_type is None else media_type
        self.background = background
        self._set_content(content)
        self.init_headers(headers)

    def make_framing(self) -> Framing:
        """The format, made anew for each time the response is sent."""
        return Raw(self.charset)

    @property
    def body_iterator(self) -> Any:
        """The content as an async iterable, for code that wraps it; what is set is sent instead."""
        content = self._content
        return content if isinstance(content, AsyncIterable) else iterate_in_threads(content)

    @body_iterator.setter
    def body_iterator(self, content: Any) -> None:
        self._set_content(content)

    def _set_content(self, content: Any) -> None:
        if isinstance(content, (str, bytes, bytearray, memoryview)):
            content = (content,)
        open_source(content)  # a mistake is told where it was made, not when it is sent
        self._content: Iterable[Any] | AsyncIterable[Any] = content
        self._sent = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        listen: Receive | None = receive
        if scope["type"] == "websocket":
            send, listen = self._wrap_websocket_denial_send(send), None
        ending = await self._stream(self._open(scope), scope, listen, send)
        if self.background is not None and ending is not Ending.CANCELLED:
            await self.background()

    def _open(self, scope: Scope) -> Source:
        content = self._content
        if self._sent and (hasattr(content, "__next__") or hasattr(content, "__anext__")):
            raise SourceSpent(content)
        self._sent = True
        return open_source(content)

    async def _stream(
        self, source: Source, scope: Scope, receive: Receive | None, send: Send
    ) -> Ending:
        begun = False
        try:
            options = self.options or options_of_app(scope)
            encoding = Encoding(self.raw_headers, None)
            if options.compress:
                encoding = encoding_for(scope, self.status_code, self.raw_headers, self.media_type)
            head = Head(self.status_code, encoding.headers, name_of(scope))
            if scope.get("method") == "HEAD":
                return await send_whole(b"", options, head, scope, receive, send)
            if options.release_dependencies:
                await release_dependencies(scope)
            framing = self.make_framing()
            if (items := filter_of(scope, self, self._content, framing)) is not None:
                framing = Filtered(framing, items)
            begun = True
            return await serve(
                source, framing, encoding.make_codec, options, head, scope, receive, send
            )
        finally:
            if not begun:
                await source.close()


def options_of_app(scope: Scope) -> StreamOptions:
    """The settings of the application that a request is for, or the defaults."""
    state = getattr(scope.get("app"), "state", None)
    options = getattr(state, "stream_options", None)
    return _DEFAULTS if options is None else _checked(options, "app.state.stream_options")


def _checked(options: Any, name: str) -> StreamOptions:
    if not isinstance(options, StreamOptions):
        raise InvalidOption(name, options, "a StreamOptions")
    return options


_DEFAULTS = StreamOptions()
