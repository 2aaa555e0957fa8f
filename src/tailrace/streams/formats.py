"""The formats of a subscription: events for browsers, lines for programs, and plain bytes.

The format of the protocol's own events is in `tailrace.protocol`.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from pydantic_core import to_json

from tailrace.errors import OffsetGone, Problem, RunEnded, StreamNotFound, TailraceError
from tailrace.framing import Event, JSONLines, ServerSentEvents, error_json
from tailrace.live import End, Format, Gap, Reason
from tailrace.semantics import LIVE_HEADERS
from tailrace.store import Slice, StreamInfo, essence, is_json
from tailrace.streams.item import NamedEvent, RunEnd, WireMessage, end_of, wire_messages

__all__ = ["Events", "Lines", "Raw"]

_SSE: Final = ServerSentEvents()
_LINES: Final = JSONLines()
_MARKED: Final = JSONLines(end_mark=True)
_RETRY: Final = b"retry: 1000\n\n"
"""One second. Without it Chromium waits three before it reconnects."""


@dataclass(frozen=True, slots=True)
class Events(Format):
    """Server-sent events: one for each message of a JSON stream, or for each append to another.

    A message that is a string is sent as its text, any other as its JSON. Bytes that are not text
    are sent in base64, and a header says so, as in the protocol. The `id` of each event is the
    offset after it, so an EventSource that reconnects continues at the right place. A gap is an
    event named "gap". The end of a run is an event named "end" or "error".

    Args:
        missed: A gap before the first message; it is sent first. None: there is no such gap.
    """

    missed: Gap | None = field(default=None, kw_only=True)

    media_type: ClassVar[str] = "text/event-stream"
    heartbeat: ClassVar[bytes] = ServerSentEvents.heartbeat
    says_farewell: ClassVar[bool] = True

    def headers(self, info: StreamInfo) -> tuple[tuple[str, str], ...]:
        headers = (("content-type", self.media_type), *LIVE_HEADERS)
        if _is_text(info.content_type):
            return headers
        return (*headers, ("stream-sse-data-encoding", "base64"))

    def begin(self, first: Slice, now: float) -> bytes:
        return _RETRY if self.missed is None else _RETRY + self.gap(self.missed)

    def frame(self, part: Slice, now: float) -> bytes:
        content_type = part.info.content_type
        if is_json(content_type):
            return b"".join(map(_event, wire_messages(part)))
        as_text = _is_text(content_type)
        return b"".join(
            _written(chunk.data if as_text else b64encode(chunk.data), str(chunk.end))
            for chunk in part.chunks
        )

    def gap(self, gap: Gap) -> bytes:
        return _written(_fields_of(gap), str(gap.end), "gap")

    def end(self, end: End) -> bytes:
        if end.reason is Reason.FAREWELL:
            return _SSE.farewell(end.retry)
        if end.reason is Reason.DELETED:
            return _SSE.failure(Problem("stream_not_found", "the stream was deleted"))
        return b"" if end.error is None else _SSE.failure(_unreadable(end.error))


def _event(message: WireMessage) -> bytes:
    id_ = message.offset
    reserved = message.reserved
    if reserved is None:
        text = message.text
        if text is None and b"\n" not in message.data and b"\r" not in message.data:
            return b"data: %b\nid: %b\n\n" % (message.data, id_.encode())
        return _written(message.data if text is None else text, id_)
    if isinstance(reserved, NamedEvent):
        return _named(reserved, id_)
    if reserved.status == "done":
        return _written({}, id_, "end")
    return _written(error_json(_problem(reserved)), id_, "error")


def _unreadable(error: TailraceError) -> Problem:
    return Problem(error.code, "the stream cannot be read now")  # the reason is only logged


def _problem(end: RunEnd) -> Problem:
    return Problem(end.code, end.message)


def _named(event: NamedEvent, id_: str) -> bytes:
    name = event.name
    if not name or "\n" in name or "\r" in name:  # a client has appended it: not valid as a name
        name = "message"
    return _written("" if event.data is None else event.data, id_, name)


def _written(data: Any, id_: str | None, event: str | None = None) -> bytes:
    return _SSE.frame(Event(data, event=event, id=id_))


@dataclass(frozen=True, slots=True)
class Lines(Format):
    """JSON Lines: a line for each message of a JSON stream.

    A named event is `{"event": ..., "data": ...}`. A gap is `{"gap": {"from": ..., "to": ...}}`. A
    run that has failed, was cancelled or was lost ends with `{"error": {"code": ..., "message":
    ...}}`, and the connection is cut.

    Args:
        end_mark: End with `{"end": {}}` if the stream is closed, all of it was sent, and the run
            that wrote it, if any, is done.
        missed: As in `Events`.
    """

    end_mark: bool = field(default=False, kw_only=True)
    missed: Gap | None = field(default=None, kw_only=True)

    media_type: ClassVar[str] = "application/jsonl"
    heartbeat: ClassVar[bytes] = JSONLines.heartbeat

    def begin(self, first: Slice, now: float) -> bytes:
        return b"" if self.missed is None else self.gap(self.missed)

    def frame(self, part: Slice, now: float) -> bytes:
        return b"".join(map(_line, wire_messages(part)))

    def gap(self, gap: Gap) -> bytes:
        return to_json({"gap": _fields_of(gap)}) + b"\n"

    def end(self, end: End) -> bytes:
        if end.reason is Reason.FAILED and end.error is not None:
            return _LINES.failure(_unreadable(end.error))
        _raise_unless_whole(end)
        return _MARKED.closing() if self.end_mark and end.reason is Reason.CLOSED else b""


def _fields_of(gap: Gap) -> dict[str, str | None]:
    return {"from": None if gap.start is None else str(gap.start), "to": str(gap.end)}


def _line(message: WireMessage) -> bytes:
    reserved = message.reserved
    if reserved is None:
        # A client may have sent JSON on several lines; line breaks in its strings are escaped.
        return message.data.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n"
    if isinstance(reserved, NamedEvent):
        return to_json({"event": reserved.name, "data": reserved.data}, inf_nan_mode="null") + b"\n"
    return b"" if reserved.status == "done" else _LINES.failure(_problem(reserved))


@dataclass(frozen=True, slots=True)
class Raw(Format):
    """The bytes of a stream as they were appended; of a JSON stream the text of its strings.

    This format has nothing but data. So at a gap, and after a run that has failed, was cancelled or
    was lost, the connection is cut.
    """

    def headers(self, info: StreamInfo) -> tuple[tuple[str, str], ...]:
        """The stream's own content type; plain text for a JSON stream."""
        content_type = info.content_type
        if is_json(content_type):
            content_type = "text/plain; charset=utf-8"
        return (("content-type", content_type), *LIVE_HEADERS)

    def frame(self, part: Slice, now: float) -> bytes:
        if not is_json(part.info.content_type):
            return part.data
        return b"".join(map(_text, wire_messages(part)))

    def end(self, end: End) -> bytes:
        _raise_unless_whole(end)
        return b""


def _text(message: WireMessage) -> bytes:
    if message.reserved is not None:
        return b""
    text = message.text
    return message.data + b"\n" if text is None else text.encode()


def _is_text(content_type: str) -> bool:
    return is_json(content_type) or essence(content_type).startswith("text/")


def _raise_unless_whole(end: End) -> None:
    """Raise an error, which cuts the connection, unless the response may end cleanly."""
    if end.reason is Reason.DELETED:
        raise StreamNotFound(end.path)
    if end.reason is Reason.GAP:
        assert end.gap is not None
        raise OffsetGone(str(end.gap.start), str(end.gap.end))
    if end.error is not None:
        raise end.error
    ended = None if end.last is None else end_of(end.last)
    if ended is not None and ended.status != "done":
        raise RunEnded(end.path, ended.status, ended.code, ended.message)
