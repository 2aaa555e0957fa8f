"""A file's body that the server copies: no byte of it comes through Python.

**Spans** are bytes of the file that the server hands to the kernel. Nothing waits here but the
request's own task, so there is no buffer: a span is one message, and the next one follows when the
server has taken it. The bytes are not seen, so the file is checked before each span. The last
block of a body is always read, behind all spans, and the file is checked once more before this
block is sent. So a file that changed while it was sent never looks complete.

The descriptor must stay open while the server uses it: what ends the response early cancels the
message that is on its way, and the file is closed behind that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from math import inf

import anyio
from starlette.types import Receive, Scope, Send

from tailrace.connection import Ending
from tailrace.errors import FileChanged, FileUnavailable
from tailrace.pump.deadlines import Deadlines
from tailrace.pump.sending import Head, Sending, nothing_due
from tailrace.runtime import call_in_thread, current_loop, file_threads
from tailrace.source import Extent, OpenFile, Piece
from tailrace.types import StreamOptions

__all__ = ["FileBody", "send_file"]


class Span(Extent):
    """Bytes that the server copies."""

    __slots__ = ()


class FileBody:
    """What is sent of a file.

    Args:
        file: Open; `send_file` closes it.
        pieces: In the order of the body.
        block_bytes: Pieces of at most this length are read, not spanned.
        span_bytes: The length of a span, `block_bytes` or more.
    """

    def __init__(
        self, file: OpenFile, pieces: Sequence[Piece], *, block_bytes: int, span_bytes: int
    ) -> None:
        self.file = file
        self._pieces = pieces
        self._block_bytes = block_bytes
        self._span_bytes = span_bytes

    def steps(self) -> Iterator[bytes | Extent | Span]:
        """What is done, one after the other: bytes to send, extents to read, and spans."""
        extents = [piece for piece in self._pieces if isinstance(piece, Extent)]
        for piece in self._pieces:
            if isinstance(piece, bytes):
                yield piece
                continue
            read_from = piece.start
            end = piece.stop - self._block_bytes if piece is extents[-1] else piece.stop
            for each in Extent(piece.start, end).cut(self._span_bytes):
                if each.size >= self._block_bytes:  # a shorter rest is read with what follows
                    yield Span(each.start, each.stop)
                    read_from = each.stop
            yield from Extent(read_from, piece.stop).cut(self._block_bytes)

    async def close(self, timeout: float) -> None:
        """Close the file, whatever has been cancelled.

        Args:
            timeout: Seconds that the disk may take.
        """
        with anyio.move_on_after(timeout, shield=True):
            await call_in_thread(self.file.close, threads=file_threads)


async def send_file(
    body: FileBody,
    options: StreamOptions,
    head: Head,
    scope: Scope,
    receive: Receive | None,
    send: Send,
) -> Ending:
    """Send a file by a server that takes `http.response.zerocopysend`.

    Args:
        body: Closed when this returns or raises.
        options: `send_timeout`, `min_rate` and `cleanup_timeout` are used.
        head: Status and headers.
        scope, receive, send: ASGI's; `receive` is None where the client's leaving is not told.

    Returns:
        How it ended.

    Raises:
        FileChanged, FileUnavailable: Before the first message an ordinary error response can still
            be sent; behind it the server cuts the connection.
    """
    loop = current_loop()
    clock = Deadlines(loop.time(), send_timeout=options.send_timeout, min_rate=options.min_rate)
    clock.begins_at_once()
    transfer = _Transfer()
    sending = transfer.sending = Sending(transfer, loop, scope, receive, send, clock)
    raised: BaseException | None = None
    try:
        sending.begin()
        sending.run_clock(nothing_due)
        if sending.ending is None:
            error = await sending.interruptible(_send(body, head, sending))
            if error is not None:
                raise error
        sending.ending = sending.ending or Ending.COMPLETE
        return sending.ending
    except BaseException as error:
        raised = error
        raise
    finally:
        await body.close(options.cleanup_timeout)
        await sending.over(raised)
        del raised  # or this frame and the traceback keep each other alive


class _Transfer:
    """What ends a transfer early: it has no farewell, but it can be interrupted."""

    sending: Sending
    lingers = inf

    def end_early(self) -> None:
        self.sending.interrupt()


async def _send(body: FileBody, head: Head, sending: Sending) -> Exception | None:
    """Send all of it. Returns what is wrong with the file."""
    begun = False
    try:
        for step in body.steps():
            data = step if isinstance(step, bytes) else b""
            if isinstance(step, Span):
                await call_in_thread(body.file.check, threads=file_threads)
            elif isinstance(step, Extent):
                read = partial(body.file.read, step.start, step.stop)
                data = await call_in_thread(read, threads=file_threads)
            if not begun:
                begun = True
                await sending.start(head.message())
            if isinstance(step, Span):
                await sending.write_span(body.file.descriptor, step)
            else:
                await sending.write(data)
    except (FileChanged, FileUnavailable) as error:
        if begun:
            await sending.send_unsendable(error)
        return error
    await sending.write(b"", more=False)
    sending.finished = True
    return None
