"""A stream as server-sent events: `data` events, and a `control` event after each of them.

Each event ends with `id:`, the offset after it, so that a browser's own EventSource comes back
with `Last-Event-ID` at the right place. It is behind the data, for some clients take an id as soon
as they have read its line. A data event and its control event are one write: clients may stop to
read at either.

What the format costs, for streams of text (the others come whole, in base64 or as JSON):

* A line of an event ends at CR, LF or both, and clients put them together with LF. So CR and CRLF
  in the text arrive as LF.
* Bytes that are no UTF-8 arrive as U+FFFD; so does a character that was cut in two by two appends,
  where an event ends between them.

Who must have every byte as it was reads by catch-up or long-poll.

Source: Durable Streams 5.8, 10.1; WHATWG HTML 9.2.5.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from typing import ClassVar

from tailrace import limits
from tailrace.live import End, Format
from tailrace.protocol.cursor import interval_of
from tailrace.store import Slice, StreamInfo, array_of, essence, is_json

__all__ = ["SseFormat", "is_text"]


def is_text(content_type: str) -> bool:
    """Whether a stream's bytes can be written into events as they are."""
    return is_json(content_type) or essence(content_type).startswith("text/")


@dataclass(frozen=True, slots=True)
class SseFormat(Format):
    """The protocol's SSE answer.

    Args:
        floor: The cursor that answers must not go below: one that follows the reader's own, if it
            gave back the newest; None for all others, which share what is written.
    """

    floor: int | None = None

    media_type: ClassVar[str] = "text/event-stream"
    heartbeat: ClassVar[bytes] = b":\n\n"
    says_farewell: ClassVar[bool] = True

    def headers(self, info: StreamInfo) -> tuple[tuple[str, str], ...]:
        """With the note that data is base64, where it is."""
        headers = (
            ("content-type", self.media_type),
            ("cache-control", "no-cache, no-store"),  # the first is what clients' tests look for
            ("x-accel-buffering", "no"),
        )
        if is_text(info.content_type):
            return headers
        return (*headers, ("stream-sse-data-encoding", "base64"))

    def begin(self, first: Slice, now: float) -> bytes:
        """When to come back; and where the stream begins, if it is not at its first byte."""
        head = b"retry:%d\n\n" % round(limits.SSE_RETRY * 1000)
        if first.start.position == 0 or first.start != first.info.first:
            return head
        token = str(first.start)
        more = f',"streamFirstOffset":"{token}"{self._cursor(now)}'
        return head + _control(token, more)

    def frame(self, part: Slice, now: float) -> bytes:
        """The data, if there is some, and the control event."""
        token = str(part.end)
        if part.closed:
            more = ',"streamClosed":true,"upToDate":true'
        else:
            more = self._cursor(now) + (',"upToDate":true' if part.up_to_date else "")
        return _data(token, part) + _control(token, more)

    def end(self, end: End) -> bytes:
        """When to come back, if it is not at once.

        A stream that was deleted, and one that lets go of what this reader has not got, just end:
        it comes back, and is told by an ordinary answer (404, 410).
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
    # The order of these lines and each blank of them is what clients' patterns are written for.
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
        # Clients take one blank from the front of a line: one that begins so needs another.
        data = data.replace(b"\n", b"\ndata:").replace(b"\ndata: ", b"\ndata:  ")
    return b" " + data if data.startswith(b" ") else data
