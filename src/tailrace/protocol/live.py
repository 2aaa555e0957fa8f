"""Live reading: server-sent events, long-polls, and the cursors of both.

**Server-sent events** are `data` events, with a `control` event after each of them. Each event ends
with `id:`, the offset after its data, so that a browser's own EventSource reconnects with the right
`Last-Event-ID`. The `id:` follows the data, since some clients use an id as soon as they have read
its line. A data event and its control event are one write: a client may stop reading after either.

What the format changes in streams of text (others arrive unchanged, in base64 or as JSON):

* A line of an event ends at CR, LF or both, and clients join the lines with LF. So CR and CRLF in
  the text arrive as LF.
* Bytes that are not UTF-8 arrive as U+FFFD; so does a character that is split over two appends, if
  an event ends between them.

A client that needs every byte unchanged reads by catch-up or long-poll.

**A long-poll** waits for data. It ends at the first of these: data arrives, the stream is closed or
deleted, the time is over, the client leaves, the server stops.

**A cursor** stops a cache from giving a waiting client the same old answer again and again. The
client sends the cursor of the last answer with its next request, so the cache takes that for a new
request. But clients that wait for the same data should send the same request, so that the cache
asks only once for all of them. So a cursor is the number of the interval of 20 seconds in which it
is given out. A client that sends this number, or a greater one, gets one that is greater still. It
is not drawn for each client, but computed from the cursor that the client sent and a salt of the
process: clients that send the same cursor get the same cursor.

Source: Durable Streams 5.7, 5.8, 10.1; WHATWG HTML 9.2.5.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from typing import ClassVar, Final
from zlib import crc32

import anyio
from starlette.types import Receive, Scope, Send

from tailrace import limits
from tailrace.connection import Ending, OpenResponse
from tailrace.live import End, Format, Hub
from tailrace.protocol.command import Get
from tailrace.protocol.options import ProtocolOptions
from tailrace.store import Slice, StreamInfo, Where, array_of, essence, is_json

__all__ = ["EPOCH", "LongPoll", "SseFormat", "interval_of", "is_text", "next_cursor"]

EPOCH: Final = 1_728_432_000
"""Cursors count from 9 October 2024, 00:00 UTC; seconds since the Unix epoch."""

_STEPS: Final = int(limits.CURSOR_JITTER // limits.CURSOR_INTERVAL)


class LongPoll:
    """One long-poll. While it runs, it is a reader of the live stream.

    Args:
        hub: The live streams.
        command: What it reads.
        options: `long_poll_timeout`, and `read_bytes`.
        scope, receive, send: ASGI's.
    """

    __slots__ = ("_command", "_hub", "_options", "_response", "_waiting")

    lingers = 0.0
    """Seconds that it goes on when the server stops: it answers at once."""

    def __init__(
        self,
        hub: Hub,
        command: Get,
        options: ProtocolOptions,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        self._hub = hub
        self._command = command
        self._options = options
        self._response = OpenResponse(self, scope, receive, send)
        self._waiting = anyio.CancelScope()

    @property
    def left(self) -> bool:
        """Whether the client has left."""
        return self._response.ending is Ending.LEFT

    def end_early(self) -> None:
        """Stop waiting: the client has left, or the server stops."""
        self._waiting.cancel()

    async def run(self) -> Slice:
        """Read the data that is there, or wait for some; empty if none arrives in time.

        Raises:
            StreamNotFound: The stream does not exist, or was deleted meanwhile (404).
            OffsetGone, InvalidOffset: As `Store.read`.
        """
        live = self._hub.join(self._command.path)  # first: it learns the tail from each read
        try:
            part = await self._read(self._command.where)
            if part.chunks or part.closed:
                return part
            async with self._response:
                part = await self._wait(part)
        finally:
            self._hub.leave(live)
        return part

    async def _read(self, where: Where) -> Slice:
        return await self._hub.read(self._command.path, where, self._options.read_bytes)

    async def _wait(self, part: Slice) -> Slice:
        self._waiting.deadline = anyio.current_time() + self._options.long_poll_timeout
        with self._waiting:
            while not part.chunks and not part.closed:
                await self._hub.wait(self._command.path, part.end)
                part = await self._read(part.end)
        return part


def interval_of(now: float) -> int:
    """The cursor that is given out at a time, which is in seconds since the Unix epoch."""
    return max(0, int((now - EPOCH) // limits.CURSOR_INTERVAL))


def next_cursor(given: int | None, now: float, salt: int) -> int:
    """The cursor of an answer: that of now, or one greater than the client's.

    Args:
        given: The cursor that the client sent, or None.
        now: Seconds since the Unix epoch.
        salt: A number of 32 bits, the same while the process lives.
    """
    current = interval_of(now)
    if given is None or given < current:
        return current
    return given + 1 + crc32(b"%d" % given, salt) % _STEPS


def is_text(content_type: str) -> bool:
    """Whether a stream's bytes can be written into events as they are."""
    return is_json(content_type) or essence(content_type).startswith("text/")


@dataclass(frozen=True, slots=True)
class SseFormat(Format):
    """The protocol's SSE answer.

    Args:
        floor: The least cursor in its events: for a reader that sent the newest cursor and must get
            a greater one. None for all other readers: they share what is written.
    """

    floor: int | None = None

    media_type: ClassVar[str] = "text/event-stream"
    heartbeat: ClassVar[bytes] = b":\n\n"
    says_farewell: ClassVar[bool] = True

    def headers(self, info: StreamInfo) -> tuple[tuple[str, str], ...]:
        """The headers of the answer; one of them says so if data is in base64."""
        headers = (
            ("content-type", self.media_type),
            ("cache-control", "no-cache, no-store"),  # clients' tests look for no-cache
            ("x-accel-buffering", "no"),
        )
        if is_text(info.content_type):
            return headers
        return (*headers, ("stream-sse-data-encoding", "base64"))

    def begin(self, first: Slice, now: float) -> bytes:
        """How soon to reconnect; and where the stream begins, if its first bytes are gone."""
        head = b"retry:%d\n\n" % round(limits.SSE_RETRY * 1000)
        if first.start.position == 0 or first.start != first.info.first:
            return head
        token = str(first.start)
        more = f',"streamFirstOffset":"{token}"{self._cursor(now)}'
        return head + _control(token, more)

    def frame(self, part: Slice, now: float) -> bytes:
        """The data event, if there is data, and the control event."""
        token = str(part.end)
        if part.closed:
            more = ',"streamClosed":true,"upToDate":true'
        else:
            more = self._cursor(now) + (',"upToDate":true' if part.up_to_date else "")
        return _data(token, part) + _control(token, more)

    def end(self, end: End) -> bytes:
        """How soon to reconnect, if not at once.

        If the stream was deleted, or no longer retains what this reader has not got, the answer
        just ends: the client reconnects, and that request gets an answer that says so.
        """
        if end.error is not None:
            raise end.error
        return b"retry:%d\n\n" % round(end.retry * 1000) if end.retry else b""

    def _cursor(self, now: float) -> str:
        cursor = interval_of(now)
        if self.floor is not None and self.floor > cursor:
            cursor = self.floor
        return f',"streamCursor":"{cursor}"'


def _control(token: str, more: str) -> bytes:
    # Clients match events with patterns that expect this order of lines, and exactly these spaces.
    return f'event: control\ndata:{{"streamNextOffset":"{token}"{more}}}\nid:{token}\n\n'.encode()


def _data(token: str, part: Slice) -> bytes:
    data = part.data
    if not data:
        return b""
    content_type = part.info.content_type
    if is_json(content_type):
        data = array_of(data)
    elif not is_text(content_type):
        data = b64encode(data)
    return b"event: data\ndata:%b\nid:%b\n\n" % (_lines(data), token.encode())


def _lines(data: bytes) -> bytes:
    """The data as lines of an event, without the first `data:`."""
    if not data.isascii():
        data = data.decode(errors="replace").encode()
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if b"\n" in data:
        # Clients drop one space at the start of a line: a line that begins with one needs two.
        data = data.replace(b"\n", b"\ndata:").replace(b"\ndata: ", b"\ndata:  ")
    return b" " + data if data.startswith(b" ") else data
