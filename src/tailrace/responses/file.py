"""`FileResponse`: Starlette's, with all of RFC 9110's conditions and ranges, and without copies.

Where it differs from Starlette's on purpose (docs/differences.md has the tests):

* A Range that is not valid is ignored and the whole file sent, never 400; HEAD has no ranges.
* Ranges that nearly touch come as one part.
* Conditions are answered here: 304 and 412.
* A file that changes while it is sent cuts the connection; Starlette sends what it finds, or ends
  short of the length it promised.
* A name that is not ASCII is sent in both forms of RFC 6266, not only in the newer one.

**Zero copy, and what is in between.** ASGI's extensions are messages that are no
`http.response.body`, and every middleware that wraps `send` sees them. Starlette's own know
`http.response.pathsend`; of `http.response.zerocopysend` they know nothing: `GZipMiddleware` drops
it without a word, and `BaseHTTPMiddleware` fails on it when the status line is already out. No
message can be tried out without that risk, so the way is looked at before anything is sent:

* `zerocopysend` is used where the server says that what is given to this `send` comes to it as it
  is (`tailrace.connection` in the scope, `reached_by`). It is preferred, since it names an open
  file: the very one that the headers were made from, and that is looked at again on the way.
* `pathsend` is used for whole files where a known server offers that alone, and nothing is in
  between that could want to see the body: Starlette's own know the message, and pass it on unread.
  The server then opens the path itself, so between our look at the file and its own the file can be
  replaced; nothing can be done about that here.
* Else the file is read in threads and sent by the pump, as every stream.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any, Final

import starlette.responses
from starlette.background import BackgroundTask
from starlette.datastructures import MutableHeaders
from starlette.types import Receive, Scope, Send

from tailrace import limits
from tailrace.connection import CONNECTION, Ending, ServerConnection, has_left, is_clear
from tailrace.errors import FileChanged, InvalidOption, SourceBusy
from tailrace.framing import Framing
from tailrace.pump import FileBody, Head, send_file, send_whole, serve
from tailrace.responses.plan import (
    ETagKind,
    FileRequest,
    Plan,
    Representation,
    check_etag,
    make_plan,
    of_file,
    of_ranges,
    open_representation,
)
from tailrace.responses.request import (
    answer_busy,
    options_of_app,
    release_dependencies,
    run_background,
)
from tailrace.runtime import call_in_thread, file_threads
from tailrace.semantics import MediaTypes, content_disposition
from tailrace.source import (
    FileBlocks,
    Opener,
    OpenFile,
    Piece,
    RangedSource,
    RangeSource,
    Source,
    SyncSource,
)
from tailrace.types import StreamOptions

__all__ = ["FileResponse"]

_PATHSEND: Final = "http.response.pathsend"
_ZEROCOPYSEND: Final = "http.response.zerocopysend"

_ATTEMPTS: Final = 3
"""How often a file is opened anew that changed before anything of it was sent."""

_MEDIA_TYPES: Final = MediaTypes({})


class FileResponse(starlette.responses.FileResponse):
    """Send a file, or parts of it, as the request asks.

    Ranges, conditions and HEAD are answered by RFC 9110. The ETag changes whenever the file does. A
    file that is truncated, overwritten, deleted or replaced while it is sent cuts the connection,
    so that no client takes a mix or a part for the whole. A file that grows is sent as it was.

    Args:
        path: The file; or a `RangeSource`, for bytes that are generated or elsewhere.
        status_code: The HTTP status. Ranges are for 200, conditions for 2xx.
        headers: Response headers. An `etag` or `last-modified` among them takes the place of ours.
        media_type: The Content-Type; None goes by the name's suffix.
        background: Runs once after the file was closed, whether the client stayed or left.
        filename: The name under which the client keeps it; None sends no Content-Disposition.
        stat_result: Fills the headers when the response is made. The file is looked at again when
            it is sent, and that counts.
        content_disposition_type: "attachment" or "inline".
        cache_control: The Cache-Control header; None sends none.
        precompressed: Look beside the file for `.zst`, `.br` and `.gz`, made of it beforehand, and
            send what Accept-Encoding prefers. Each has an ETag of its own.
        opener: Opens the file in place of `os.open`, as `open`'s argument of this name; called in
            a thread, for each request, with the path and the flags.
        etag: "exact": another one whenever anything was done to the file. "portable": from its size
            and its modification time in whole seconds, the same for copies on several machines; a
            file that is written anew within the second, or set back in time, keeps it.
        options: The settings; None takes `app.state.stream_options`, or the defaults.

    Raises:
        InvalidOption: A header or the disposition's type that cannot be sent.
        FileUnavailable: When it is sent: the file does not exist, is not a regular file, or cannot
            be read.
        FileChanged: When it is sent: the file changed, and the connection is cut.

    Source: RFC 9110 13, 14 and 15.3.7; RFC 6266; ASGI's extensions `http.response.pathsend` and
        `http.response.zerocopysend`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | RangeSource,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
        background: BackgroundTask | None = None,
        filename: str | None = None,
        stat_result: os.stat_result | None = None,
        content_disposition_type: str = "attachment",
        *,
        cache_control: str | None = None,
        precompressed: bool = False,
        opener: Opener | None = None,
        etag: ETagKind = "exact",
        options: StreamOptions | None = None,
    ) -> None:
        self.ranges = None if isinstance(path, (str, os.PathLike)) else _checked(path)
        self.path: Any = path
        self.status_code = status_code
        self.filename = filename
        self.background = background
        self.options = options
        self.precompressed = precompressed
        self._opener = opener
        self._etag: ETagKind = check_etag(etag)
        name = filename or ("" if self.ranges is not None else str(self.path))
        self.media_type = _MEDIA_TYPES.of(name) if media_type is None else media_type
        self.init_headers(headers)
        self.headers.setdefault("accept-ranges", "bytes")
        if filename is not None:
            disposition = content_disposition(content_disposition_type, filename)
            self.headers.setdefault("content-disposition", disposition)
        if cache_control is not None:
            if not (cache_control.isascii() and cache_control.isprintable()):
                raise InvalidOption("cache_control", cache_control, "the value of a header")
            self.headers["cache-control"] = cache_control
        if precompressed:
            self.headers.add_vary_header("accept-encoding")
        self._state_headers: dict[str, str] = {}
        self.stat_result = stat_result
        if stat_result is not None:
            self.set_stat_headers(stat_result)

    def set_stat_headers(self, stat_result: os.stat_result) -> None:
        """Fill the headers from the file as it is now. When it is sent, they follow the file as it
        is then."""
        for name, value in of_file(stat_result, etag=self._etag).headers(time.time()).items():
            if self.headers.setdefault(name, value) == value:
                self._state_headers[name] = value

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        listen: Receive | None = receive
        if scope["type"] == "websocket":
            send, listen = self._wrap_websocket_denial_send(send), None
        options = self.options or options_of_app(scope)
        request = FileRequest.of(scope)
        if self.ranges is not None:
            plan = self._plan(of_ranges(self.ranges), request)
        else:
            takes_paths = _takes_paths(scope, send)
            prepare = partial(self._prepare, request, options.max_batch_bytes, takes_paths)
            plan = await call_in_thread(prepare, threads=file_threads, discard=Plan.close)
        head = Head(plan.status, plan.headers.raw)
        if request.method == "HEAD":
            ending = await send_whole(b"", options, head, scope, listen, send)
        elif plan.path is not None:
            ending = await _send_path(plan.path, head, scope, listen, send)
        elif not plan.file_bytes:
            ending = await send_whole(plan.body, options, head, scope, listen, send)
        else:
            ending = await self._stream(plan, options, head, scope, listen, send)
        await run_background(self.background, ending)

    # What is decided, in a thread

    def _prepare(self, request: FileRequest, block_bytes: int, takes_paths: bool) -> Plan:
        """Open the file and decide. If one read gives all of the body, read it as well."""
        prepare = partial(self._prepare_once, request, block_bytes, takes_paths)
        for _ in range(_ATTEMPTS - 1):
            with suppress(FileChanged):
                return prepare(grows=False)
        return prepare(grows=True)

    def _prepare_once(
        self, request: FileRequest, block_bytes: int, takes_paths: bool, *, grows: bool
    ) -> Plan:
        file, encoding = open_representation(
            str(self.path),
            self._opener,
            precompressed=self.precompressed and "content-encoding" not in self.headers,
            accept_encoding=request.accept_encoding,
        )
        with ExitStack() as stack:
            stack.callback(file.close)
            plan = self._plan(of_file(file.stat, encoding, self._etag), request)
            if request.method == "HEAD" or not plan.file_bytes:
                return plan
            if takes_paths and plan.whole and self._opener is None:
                # Not `abspath`, which resolves `..` without looking at links.
                plan.path = os.path.join(os.getcwd(), file.path)
                return plan
            if plan.file_bytes > block_bytes or grows:
                file.remember_edges()
            if plan.file_bytes > block_bytes:
                plan.file = file
                stack.pop_all()
            else:
                plan.pieces = [b"".join(FileBlocks(file, plan.pieces, block_bytes))]
            return plan

    def _plan(self, state: Representation, request: FileRequest) -> Plan:
        headers = MutableHeaders(raw=list(self.raw_headers))
        for name, value in state.headers(request.now).items():
            given = headers.get(name)
            if given is None or name == "content-length" or given == self._state_headers.get(name):
                headers[name] = value
        return make_plan(request, state, self.status_code, headers, self.max_ranges)

    # What is sent, in the loop

    async def _stream(
        self,
        plan: Plan,
        options: StreamOptions,
        head: Head,
        scope: Scope,
        receive: Receive | None,
        send: Send,
    ) -> Ending:
        begun = False
        try:
            if options.release_dependencies:
                await release_dependencies(scope)
            begun = True
            if plan.file is not None and _copies(scope, send):
                body = _body(plan.file, plan.pieces, options)
                return await send_file(body, options, head, scope, receive, send)
            source = self._source(plan, options)
            return await serve(source, _AsItIs(), None, options, head, scope, receive, send)
        except SourceBusy as error:
            return await answer_busy(error, scope, receive, send)
        finally:
            if not begun:
                plan.close()

    def _source(self, plan: Plan, options: StreamOptions) -> Source:
        if self.ranges is not None:
            return RangedSource(self.ranges, plan.pieces)
        assert plan.file is not None
        return SyncSource(FileBlocks(plan.file, plan.pieces, options.max_batch_bytes), file_threads)


def _body(file: OpenFile, pieces: Sequence[Piece], options: StreamOptions) -> FileBody:
    block_bytes = options.max_batch_bytes
    # A rate is counted write by write, so the writes must be short.
    span_bytes = max(limits.ZERO_COPY_SPAN_BYTES, block_bytes)
    return FileBody(
        file,
        pieces,
        block_bytes=block_bytes,
        span_bytes=span_bytes if options.min_rate is None else block_bytes,
    )


class _AsItIs(Framing):
    """Blocks, as they come."""

    name = "file"

    def frame(self, item: Any) -> bytes:
        return item  # type: ignore[no-any-return] # bytes and spans are what file sources give


def _checked(ranges: Any) -> RangeSource:
    if not isinstance(ranges, RangeSource):
        raise TypeError(
            f"a file response needs a path or a RangeSource, not {type(ranges).__qualname__}: "
            "give it an object with `size` and `read(start, stop)`"
        )
    return ranges


async def _send_path(
    path: str, head: Head, scope: Scope, receive: Receive | None, send: Send
) -> Ending:
    try:
        await send(head.message())
        await send({"type": _PATHSEND, "path": path})
    except Exception as error:
        if not await has_left(error, scope, receive, send):
            raise
        return Ending.LEFT
    return Ending.COMPLETE


def _takes_paths(scope: Scope, send: Send) -> bool:
    """Whether the server sends files by their paths, in no better way, with nothing in between."""
    extensions = scope.get("extensions") or {}
    return CONNECTION not in extensions and _PATHSEND in extensions and is_clear(send)


def _copies(scope: Scope, send: Send) -> bool:
    """Whether the server copies files itself, and nothing is in between."""
    extensions = scope.get("extensions") or {}
    connection: ServerConnection | None = extensions.get(CONNECTION)
    if connection is None or _ZEROCOPYSEND not in extensions:
        return False
    return connection.reached_by(send)
