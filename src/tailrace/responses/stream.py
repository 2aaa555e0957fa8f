"""`StreamingResponse`: Starlette's, with Tailrace's pump behind it.

Where it differs from Starlette's on purpose (docs/differences.md has the tests):

* A client that leaves is not an error: no `ClientDisconnect` is raised, and background tasks run.
* Small chunks are put together, large ones are cut; the bytes are the same.
* HEAD sends the headers and runs nothing.
* A str or bytes is one chunk, not one for each character.
* Text is sent in the charset that the Content-Type says.
* Caches and nginx are told to keep nothing of it, unless the application says otherwise.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import starlette.responses
from starlette.background import BackgroundTask
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Receive, Scope, Send

from tailrace.connection import Ending, is_clear
from tailrace.errors import InvalidOption, SourceBusy, SourceSpent
from tailrace.framing import ENCODINGS, Codec, Framing, Raw, codec_for, is_compressible
from tailrace.pump import Head, send_whole, serve
from tailrace.responses.declared import Filtered, filter_of
from tailrace.responses.request import (
    answer_busy,
    check_options,
    options_of_app,
    release_dependencies,
    run_background,
)
from tailrace.semantics import (
    DIGESTS,
    LIVE_HEADERS,
    ResponseFields,
    charset_of,
    choose_encoding,
    content_disposition,
    is_utf8,
)
from tailrace.source import Source, is_rewindable, iterate_in_threads, open_source
from tailrace.types import StreamOptions

__all__ = ["StreamingResponse"]

_LIVE_HEADERS = tuple((name.encode(), value.encode()) for name, value in LIVE_HEADERS)

_WITHOUT_BODY_OR_WHOLE = frozenset({204, 206, 304})
"""No body, or a part of one whose offsets are those of the plain bytes."""

_OF_THESE_BYTES = frozenset(
    {"content-encoding", "content-length", "content-range", *(name.decode() for name in DIGESTS)}
)
"""Headers that would not hold of others."""


class StreamingResponse(starlette.responses.StreamingResponse):
    """Send what a generator yields, as it yields it.

    Chunks that are ready together are sent together, the first one at once; the generator is always
    closed; an error before the first chunk is an ordinary error response, and after it the
    connection is cut so that the client can tell; a client that stops reading is cut off.

    Args:
        content: A sync or async iterable of str, bytes, bytearray or memoryview. A sync one runs in
            a thread for sources, so it may block. It is closed, with two exceptions: a file that
            can be rewound (the response may be sent again, from where the file stood the first
            time), and a channel in memory into which something may still be sent.
        status_code: The HTTP status.
        headers: Response headers.
        media_type: The Content-Type; text types get a charset. One that it names is what str is
            encoded in.
        background: Runs once after the content was closed, whether the client stayed or left.
        options: The settings; None takes `app.state.stream_options`, or the defaults.
        filename: The name under which the client keeps it; None sends no Content-Disposition.
        content_disposition_type: "attachment" or "inline".
        end_mark: Sent after the last chunk of content that ended well: a client that receives it
            has everything, even behind a proxy that hides a cut. The content must not hold it.

    Raises:
        TypeError: The content cannot be iterated.
        InvalidOption: An end mark that cannot be sent, or an unknown type of disposition.
    """

    utf8_only: ClassVar[bool] = False
    """The format has no other charset than UTF-8."""

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
        end_mark: Any = None,
    ) -> None:
        self.options = None if options is None else check_options(options)
        self.status_code = status_code
        self.media_type = self.media_type if media_type is None else media_type
        self.background = background
        self._end_mark = end_mark
        self._set_content(content)
        self.init_headers(headers)
        if filename is not None:
            disposition = content_disposition(content_disposition_type, filename)
            self.headers.setdefault("content-disposition", disposition)
        if end_mark is not None:
            self.make_framing()  # a mark that cannot be sent is told where it was made

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        super().init_headers(headers)
        for name, value in LIVE_HEADERS:
            self.headers.setdefault(name, value)
        charset = self.sent_charset
        if self.utf8_only and not is_utf8(charset):
            raise InvalidOption("charset", charset, f"utf-8: {self.media_type} has no other")

    @property
    def sent_charset(self) -> str:
        """What text is encoded in: what the Content-Type says, or the class's own."""
        return charset_of(self.headers.get("content-type", "")) or self.charset

    def make_framing(self) -> Framing:
        """The format, made anew for each time the response is sent."""
        return Raw(self.sent_charset, end_mark=self._end_mark)

    @property
    def body_iterator(self) -> Any:
        """The content as an async iterable, for code that wraps it. An iterable that is set is sent
        instead."""
        content = self._content
        if isinstance(content, AsyncIterable):
            return content
        pin_thread = self.options is not None and self.options.pin_thread
        return iterate_in_threads(content, pin_thread=pin_thread)

    @body_iterator.setter
    def body_iterator(self, content: Any) -> None:
        self._set_content(content)

    def _set_content(self, content: Any) -> None:
        if isinstance(content, (str, bytes, bytearray, memoryview)):
            content = (content,)
        open_source(content)  # a mistake is told where it was made, not when it is sent
        self._content: Iterable[Any] | AsyncIterable[Any] = content
        self._sent = False
        self._is_open = False
        self._stood_at: int | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        listen: Receive | None = receive
        if scope["type"] == "websocket":
            send, listen = self._wrap_websocket_denial_send(send), None
        ending = await self._stream(self._open(scope), scope, listen, send)
        await run_background(self.background, ending)

    def _open(self, scope: Scope) -> Source:
        content: Any = self._content
        if not self._sent:
            self._stood_at = _position_of(content)
        elif hasattr(content, "__next__") or hasattr(content, "__anext__"):
            if self._stood_at is None or self._is_open or not is_rewindable(content):
                raise SourceSpent(content)
            content.seek(self._stood_at)
        self._sent = self._is_open = True
        return open_source(content)

    async def _stream(
        self, source: Source, scope: Scope, receive: Receive | None, send: Send
    ) -> Ending:
        begun = False
        try:
            options = self.options or options_of_app(scope)
            headers = _without_replaced(self.raw_headers)
            encoding = Encoding(headers, None)
            if options.compress:
                encoding = encoding_for(scope, self.status_code, headers, self.media_type, send)
            head = Head(self.status_code, encoding.headers)
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
        except SourceBusy as error:
            return await answer_busy(error, scope, receive, send)
        finally:
            self._is_open = False
            if not begun:
                await source.close()


def _position_of(content: Any) -> Any:
    """Where an open file stands; None if it cannot be brought back there."""
    try:
        return content.tell() if is_rewindable(content) else None
    except OSError:  # a text file that gave a line by `next()` does not say where it stands
        return None


def _without_replaced(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers without a default of ours that stands before another word on the same.

    FastAPI adds the headers of an endpoint's `Response` parameter behind those of the response that
    it makes, as lines of their own.
    """
    names = [name for name, _ in headers]
    return [
        line
        for place, line in enumerate(headers, 1)
        if line not in _LIVE_HEADERS or line[0] not in names[place:]
    ]


# Whether it is compressed, and how: decided from its headers and the request's. A middleware that
# looks at bodies looks for what the application has yielded: where one may stand in between, the
# bytes are left as they are. What compresses belongs around it.


@dataclass(frozen=True, slots=True)
class Encoding:
    """The content coding of one response.

    Args:
        headers: The response's headers, with the coding's own.
        make_codec: Makes the compressor; None leaves the bytes as they are.
    """

    headers: list[tuple[bytes, bytes]]
    make_codec: Callable[[], Codec] | None


def encoding_for(
    scope: Scope,
    status: int,
    raw_headers: list[tuple[bytes, bytes]],
    media_type: str | None,
    send: Send,
) -> Encoding:
    """Choose the content coding by Accept-Encoding.

    What has a coding, a length, a range or a digest already is left alone, and so is what is
    compressed by its nature (images, films, archives), forbidden to be (`no-transform`), or may be
    looked at by what is in front. A strong ETag becomes weak: it is of the plain bytes.

    Source: RFC 9110 8.4, 8.8.3.3, 12.5.3 and 12.5.5; RFC 9111 5.2.2.6.
    """
    # They see that a coding is added, and stay true.
    headers = MutableHeaders(raw=ResponseFields(raw_headers))
    if status in _WITHOUT_BODY_OR_WHOLE or not _may_be_encoded(headers, media_type):
        return Encoding(headers.raw, None)
    if not is_clear(send):
        return Encoding(headers.raw, None)
    headers.add_vary_header("accept-encoding")
    accepted = Headers(scope=scope).getlist("accept-encoding") if "headers" in scope else []
    name = choose_encoding(", ".join(accepted) if accepted else None, ENCODINGS)
    if name is None:
        return Encoding(headers.raw, None)
    headers["content-encoding"] = name
    return Encoding(headers.raw, partial(codec_for, name))


def _may_be_encoded(headers: MutableHeaders, media_type: str | None) -> bool:
    if any(name in headers for name in _OF_THESE_BYTES):
        return False
    if "no-transform" in headers.get("cache-control", "").lower():
        return False
    return is_compressible(headers.get("content-type", media_type))
