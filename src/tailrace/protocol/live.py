"""Live reading: server-sent events, long-polls, and the cursors of both.

**Server-sent events** are `data` events, with a `control` event after each of them. Each event ends
with `id:`, the offset after it, so that a browser's own EventSource comes back with `Last-Event-ID`
at the right place. The id is behind the data, since some clients use an id as soon as they have
read its line. A data event and its control event are one write: clients may stop reading at either.

What the format costs, for streams of text (the others arrive whole, in base64 or as JSON):

* A line of an event ends at CR, LF or both, and clients join the lines with LF. So CR and CRLF in
  the text arrive as LF.
* Bytes that are not UTF-8 arrive as U+FFFD; so does a character that two appends have cut in two,
  if an event ends between them.

A client that must have every byte as it was reads by catch-up or long-poll.

**A long-poll** waits until there is something to answer. It ends with the first of: data, the end
of the stream, the time, the client's leaving, the server's stopping.

**A cursor** keeps a cache from answering a client that waits with its own old answer for ever. The
client sends back the cursor of the last answer, so a cache takes its next request for a new one.
Clients that wait for the same data should send the same request, so that a cache asks only once for
all of them. So a cursor is the number of the 20 seconds in which it is given out. A client that
sends that number, or a later one, gets a greater one. It is not random for each client, but
computed from the client's number and a salt of the process: clients that send the same get the
same.

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
    """One long-poll. While it waits, it has its place among the stream's watchers.

    Args:
        hub: The live streams.
        command: What it reads.
        options: How long it waits, and how many bytes it gets.
        scope, receive, send: ASGI's.
    """

    __slots__ = ("_command", "_hub", "_options", "_response", "_waiting")

    lingers = 0.0
    """It answers at once when the server stops."""

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
        """The client has left."""
        return self._response.ending is Ending.LEFT

    def end_early(self) -> None:
        """Wait no longer: the client has left, or the server stops."""
        self._waiting.cancel()

    async def run(self) -> Slice:
        """The data that there is, or that arrives; empty if none arrived in time.

        Raises:
            StreamNotFound: The stream does not exist, or was deleted meanwhile.
        """
        live = self._hub.join(self._command.path)  # first: all that wait know what is read
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
    """The cursor of a time, in seconds since the epoch."""
    return max(0, int((now - EPOCH) // limits.CURSOR_INTERVAL))


def next_cursor(given: int | None, now: float, salt: int) -> int:
    """The cursor of an answer: that of now, or one greater than the client's.

    Args:
        given: The client's, or None.
        now: Seconds since the epoch.
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
        floor: The least cursor of its answers. If a reader sent back the newest cursor, it gets
            one that follows it. None for all other readers, which share what is written.
    """

    floor: int | None = None

    media_type: ClassVar[str] = "text/event-stream"
    heartbeat: ClassVar[bytes] = b":\n\n"
    says_farewell: ClassVar[bool] = True

    def headers(self, info: StreamInfo) -> tuple[tuple[str, str], ...]:
        """With a note if data is base64."""
        headers = (
            ("content-type", self.media_type),
            ("cache-control", "no-cache, no-store"),  # tests of clients look for the first
            ("x-accel-buffering", "no"),
        )
        if is_text(info.content_type):
            return headers
        return (*headers, ("stream-sse-data-encoding", "base64"))

    def begin(self, first: Slice, now: float) -> bytes:
        """When to come back; and where the stream begins, if not at its first byte."""
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
        """When to come back, if not at once.

        If the stream was deleted, or no longer retains what this reader has not got, the answer
        just ends: the client comes back, and gets an ordinary answer that says so (404, 410).
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
    # Clients' patterns are written for this order of lines, and for each blank in them.
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
    """The lines of an event's data, without the first field name."""
    if not data.isascii():
        data = data.decode(errors="replace").encode()
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if b"\n" in data:
        # Clients drop one blank at the start of a line: a line that begins with one needs two.
        data = data.replace(b"\n", b"\ndata:").replace(b"\ndata: ", b"\ndata:  ")
    return b" " + data if data.startswith(b" ") else data
