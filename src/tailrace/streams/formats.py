"""The formats of the Python API: events for browsers, lines for programs, and plain bytes.

The protocol's own events are in `tailrace.protocol`.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from pydantic_core import to_json

from tailrace.errors import OffsetGone, Problem, StreamNotFound, TailraceError
from tailrace.framing import Event, JSONLines, ServerSentEvents, error_json
from tailrace.live import End, Format, Gap, Piece, Reason
from tailrace.semantics import LIVE_HEADERS
from tailrace.store import StreamInfo, essence, is_json
from tailrace.streams.messages import Control, Message, messages_of, run_error

__all__ = ["Events", "Lines", "Raw"]

_SSE: Final = ServerSentEvents()
_LINES: Final = JSONLines()
_MARKED: Final = JSONLines(end_mark=True)
_RETRY: Final = b"retry: 1000\n\n"
"""A second. Without it Chromium waits three before it comes back."""


@dataclass(frozen=True, slots=True)
class Events(Format):
    """Server-sent events: one for each message of a JSON stream, or for each append to another.

    A message that is a string is sent as its text, any other as its JSON; bytes that are no text in
    base64, which a header tells as the protocol's does. The `id` of each is the offset after it, so
    an EventSource comes back to the right place. What is left out is an event named "gap", a run's
    end one named "end" or "error".
    """

    media_type: ClassVar[str] = "text/event-stream"
    heartbeat: ClassVar[bytes] = ServerSentEvents.heartbeat
    says_farewell: ClassVar[bool] = True

    def headers(self, info: StreamInfo) -> tuple[tuple[str, str], ...]:
        headers = (("content-type", self.media_type), *LIVE_HEADERS)
        if _is_text(info.content_type):
            return headers
        return (*headers, ("stream-sse-data-encoding", "base64"))

    def begin(self, first: Piece) -> bytes:
        return _RETRY

    def frame(self, piece: Piece) -> bytes:
        content_type = piece.info.content_type
        if is_json(content_type):
            return b"".join(map(_event, messages_of(piece)))
        as_text = _is_text(content_type)
        return b"".join(
            _written(chunk.data if as_text else b64encode(chunk.data), str(chunk.end))
            for chunk in piece.chunks
        )

    def gap(self, gap: Gap) -> bytes:
        return _written(_told(gap), str(gap.end), "gap")

    def end(self, end: End) -> bytes:
        if end.reason is Reason.FAREWELL:
            return _SSE.farewell(end.retry)
        if end.reason is Reason.DELETED:
            return _SSE.failure(Problem("stream_not_found", "the stream was deleted"))
        return b"" if end.error is None else _SSE.failure(_unreadable(end.error))


def _event(message: Message) -> bytes:
    id_ = str(message.end)
    control = message.control
    if control is None:
        text = message.text
        if text is None and b"\n" not in message.data and b"\r" not in message.data:
            return b"data: %b\nid: %b\n\n" % (message.data, id_.encode())
        return _written(message.data if text is None else text, id_)
    if control.event is not None:
        return _named(control, id_)
    if control.end == "done":
        return _written({}, id_, "end")
    return _written(error_json(_problem(control)), id_, "error")


def _unreadable(error: TailraceError) -> Problem:
    return Problem(error.code, "the stream cannot be read now")  # why is for the log


def _problem(control: Control) -> Problem:
    return Problem(control.code, control.message)


def _named(control: Control, id_: str) -> bytes:
    assert control.event is not None
    name = control.event
    if not name or "\n" in name or "\r" in name:  # appended by somebody else: no event's name
        name = "message"
    return _written("" if control.data is None else control.data, id_, name)


def _written(data: Any, id_: str | None, event: str | None = None) -> bytes:
    return _SSE.frame(Event(data, event=event, id=id_))


@dataclass(frozen=True, slots=True)
class Lines(Format):
    """JSON Lines: a line for each message of a JSON stream.

    A named event is `{"event": ..., "data": ...}`. A run that did not end well ends with
    `{"error": {"code": ..., "message": ...}}`, and the connection is cut. What is left out is
    `{"gap": {"from": ..., "to": ...}}`.

    Args:
        end_mark: End with `{"end": {}}` if the stream is closed, all of it was sent, and it is no
            run's that did not end well.
    """

    end_mark: bool = field(default=False, kw_only=True)

    media_type: ClassVar[str] = "application/jsonl"
    heartbeat: ClassVar[bytes] = JSONLines.heartbeat

    def frame(self, piece: Piece) -> bytes:
        return b"".join(map(_line, messages_of(piece)))

    def gap(self, gap: Gap) -> bytes:
        return to_json({"gap": _told(gap)}) + b"\n"

    def end(self, end: End) -> bytes:
        if end.reason is Reason.FAILED and end.error is not None:
            return _LINES.failure(_unreadable(end.error))
        _raise_unless_whole(end)
        return _MARKED.closing() if self.end_mark and end.reason is Reason.CLOSED else b""


def _told(gap: Gap) -> dict[str, str | None]:
    return {"from": None if gap.start is None else str(gap.start), "to": str(gap.end)}


def _line(message: Message) -> bytes:
    control = message.control
    if control is None:
        # A client may have sent it on several lines; within its strings they are escaped.
        return message.data.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n"
    if control.event is not None:
        told = {"event": control.event, "data": control.data}
        return to_json(told, inf_nan_mode="null") + b"\n"
    if control.end == "done":
        return b""
    return _LINES.failure(_problem(control))


@dataclass(frozen=True, slots=True)
class Raw(Format):
    """The bytes of a stream as they were appended; of a JSON stream the text of its strings.

    Nothing can be told in between: where something is missing, and where a run did not end well,
    the connection is cut.
    """

    def headers(self, info: StreamInfo) -> tuple[tuple[str, str], ...]:
        """The stream's own type."""
        content_type = info.content_type
        if is_json(content_type):
            content_type = "text/plain; charset=utf-8"
        return (("content-type", content_type), *LIVE_HEADERS)

    def frame(self, piece: Piece) -> bytes:
        if not is_json(piece.info.content_type):
            return piece.slice.data
        return b"".join(map(_text, messages_of(piece)))

    def end(self, end: End) -> bytes:
        _raise_unless_whole(end)
        return b""


def _text(message: Message) -> bytes:
    if message.control is not None:
        return b""
    text = message.text
    return message.data + b"\n" if text is None else text.encode()


def _is_text(content_type: str) -> bool:
    return is_json(content_type) or essence(content_type).startswith("text/")


def _raise_unless_whole(end: End) -> None:
    """Raise what is to cut the connection: what was sent is not all there is to say."""
    if end.reason is Reason.DELETED:
        raise StreamNotFound(end.path)
    if end.reason is Reason.GAP:
        assert end.gap is not None
        raise OffsetGone(str(end.gap.start), str(end.gap.end))
    if end.error is not None:
        raise end.error
    if end.last is not None and is_json(end.last.info.content_type):
        messages = list(messages_of(end.last))
        control = messages[-1].control if messages else None  # only the last is a run's end
        error = None if control is None else run_error(end.path, control)
        if error is not None:
            raise error
