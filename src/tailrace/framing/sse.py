"""Server-sent events, by the HTML standard of the WHATWG.

A line ends at CRLF, CR or LF and nowhere else, so `str.splitlines` cannot be used: it also cuts at
U+2028, NEL and form feeds, which are data. Each line of an item becomes a `data:` line, and the
client joins them with LF. The client removes one space after the colon. So one space is written,
and an item that starts with a space keeps it.

The event classes of FastAPI and sse-starlette are recognised by package and name, and not imported:
neither has to be installed, and the packages without I/O import no framework. They are written as
there, with two differences: an event without any field gives nothing, not a blank line; and an id
with NUL is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from typing import Any

from tailrace.errors import InvalidEvent, Problem
from tailrace.framing.base import Carries, Framing
from tailrace.framing.json import error_json, json_of
from tailrace.limits import MAX_RETRY_MS
from tailrace.types import check_flag

__all__ = ["Event", "ServerSentEvents", "is_event"]

_Writer = Callable[[Any], bytes]

_FIELDS = frozenset({"event", "data", "id", "retry", "comment"})
_log = logging.getLogger("tailrace")
_warned: set[bool] = set()
"""Not empty when the warning of `_look_at` has been logged."""

_GOING_AWAY = Problem("shutting_down", "the server is going away: connect again")


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event; its fields are checked when it is made.

    A browser gives an event to the page only if it has data; of an event without data it keeps `id`
    and `retry`, and drops the rest. If an event has only a name, set `data=""`.

    Args:
        data: str and bytes are sent as they are, each line in a `data:` line of its own; None
            writes no such line; anything else is written as JSON.
        event: The type for `addEventListener`, one line; None is "message".
        id: What the browser sends back as `Last-Event-ID`; one line without NUL; "" clears it.
        retry: Milliseconds that the client waits before it connects again, 0 to
            `limits.MAX_RETRY_MS`.
        comment: Text that clients ignore; each line is a comment.

    Raises:
        InvalidEvent: The format cannot carry one of the fields; or all fields are None, which is
            always a mistake: the event would be a blank line, which clients ignore.

    Source: WHATWG HTML 9.2.5, 9.2.6.
    """

    data: Any = None
    _: KW_ONLY
    event: str | None = None
    id: str | None = None
    retry: int | None = None
    comment: str | None = None

    def __post_init__(self) -> None:
        named = False
        if self.event is not None:
            _check_line("event", self.event)
            named = True
        if self.id is not None:
            _check_line("id", self.id)
            _check_no_nul(self.id)
            named = True
        if self.retry is not None:
            _check_retry(self.retry)
            named = True
        if self.comment is not None:
            _check_text("comment", self.comment)
            named = True
        if not named and self.data is None:
            raise InvalidEvent("data", None, "an event needs data or one of the other fields")


class ServerSentEvents(Framing):
    """Server-sent events, which an `EventSource` reads: each item is one event.

    Items: an `Event`, or one of the event classes of FastAPI and sse-starlette. Of any other item
    an event is made: str and bytes are its data as they are, anything else as JSON.

    Args:
        heartbeat_text: The comment that is sent after a silence; each line is a comment. None is
            "keep-alive".
        end_mark: End with an event named "end", if the source ended without an error.

    Raises:
        InvalidEvent: `heartbeat_text` cannot be written.
        InvalidOption: `end_mark` is not a bool.

    Source: WHATWG HTML 9.2.5, 9.2.6.
    """

    name = "sse"
    media_type = "text/event-stream"
    carries = Carries.EVENTS
    heartbeat = b": keep-alive\n\n"
    start_grace = 0.0

    def __init__(self, *, heartbeat_text: str | None = None, end_mark: bool = False) -> None:
        check_flag("end_mark", end_mark)
        self._end_mark = end_mark
        # No dict was seen yet. One look is enough: all dicts of a response have the same keys.
        self._is_first = True
        if heartbeat_text is not None:
            self.heartbeat = _write_event(Event(comment=heartbeat_text))

    def frame(self, item: Any) -> bytes:
        """The item as one event.

        Raises:
            InvalidChunk: pydantic cannot write the item, or the data of the event, as JSON.
            InvalidEvent: Text with a lone surrogate; or an event of FastAPI or sse-starlette with a
                field that cannot be written.
        """
        kind = type(item)
        if kind is dict:
            if self._is_first:
                self._is_first = False
                _look_at(item)
            return b"data: " + json_of(item, "sse") + b"\n\n"
        if kind is str:
            return _write_text(item)
        return _writer_of(kind)(item)  # type: ignore[arg-type]  # mypy: takes an instance's __hash__ for the class's

    def frame_json(self, text: bytes) -> bytes:
        return b"data: " + text + b"\n\n"

    def closing(self) -> bytes:
        return b"event: end\ndata: {}\n\n" if self._end_mark else b""

    def failure(self, problem: Problem) -> bytes:
        """An event named "error" whose data is `{"error": {"code": ..., "message": ...}}`."""
        return b"event: error\ndata: " + error_json(problem) + b"\n\n"

    def farewell(self, retry: float) -> bytes:
        """An event named "farewell", with the time after which the client connects again."""
        wait_ms = min(max(0, round(retry * 1000)), MAX_RETRY_MS)
        # A client that does not know farewells must see that the response has ended too early, so
        # the data is an error.
        return b"event: farewell\nretry: %d\ndata: %b\n\n" % (wait_ms, error_json(_GOING_AWAY))


def _look_at(item: dict[Any, Any]) -> None:
    """Warn once if a dict, sent as data, looks like an event; to sse-starlette it would be one."""
    if item and _FIELDS.issuperset(item) and not _warned:
        _warned.add(True)
        _log.warning(
            "a dict with the keys %s was sent as the data of an event: for an event yield "
            "tailrace.Event(data, event=..., id=...), or use the EventSourceResponse of "
            "tailrace.compat.sse_starlette; this warning is logged once",
            ", ".join(map(repr, item)),
        )


def _write_text(text: str) -> bytes:
    if "\n" in text or "\r" in text:
        return _encode(_lines("data", text) + "\n")
    return _encode(f"data: {text}\n\n")


def _write_octets(octets: bytes | bytearray | memoryview) -> bytes:
    return _data_lines(bytes(octets)) + b"\n"


def _write_json(item: Any) -> bytes:
    return b"data: " + json_of(item, "sse") + b"\n\n"


def _write_event(event: Event) -> bytes:
    head = "" if event.comment is None else _lines("", event.comment)
    if event.event is not None:
        # Not f"{...}": that writes the name of a (str, Enum) member, and this writes its value.
        head += "event: " + event.event + "\n"
    if event.retry is not None:
        head += f"retry: {int(event.retry)}\n"
    # The id comes last, because some clients keep an id as soon as they have read its line. If the
    # connection is cut within an event, the client must not send that event's id as the last one.
    tail = "\n" if event.id is None else "id: " + event.id + "\n\n"
    return _encode(head) + _event_data(event.data) + _encode(tail)


def _event_data(data: Any) -> bytes:
    if data is None:
        return b""
    if isinstance(data, str):
        return _encode(_lines("data", str.__str__(data)))
    if isinstance(data, (bytes, bytearray, memoryview)):
        return _data_lines(bytes(data))
    return b"data: " + json_of(data, "sse") + b"\n"


def _write_fastapi(item: Any) -> bytes:
    data = item.raw_data
    if data is None and item.data is not None:
        data = json_of(item.data, "sse")
    return _write_foreign(data, item, item.event, item.id)


def _write_sse_starlette(item: Any) -> bytes:
    # As that package does: str() of the data, and line breaks are removed from name and id.
    data = None if item.data is None else str(item.data)
    return _write_foreign(data, item, _one_line(item.event), _one_line(item.id))


def _write_foreign(data: Any, item: Any, event: str | None, id_: str | None) -> bytes:
    if all(value is None for value in (data, event, id_, item.retry, item.comment)):
        return b""  # their classes allow an event without any field, and `Event` does not
    made = Event(data, event=event, id=id_, retry=item.retry, comment=item.comment)
    return _write_event(made)


@lru_cache(maxsize=1024)  # bounded: an application may make classes while it runs
def _writer_of(kind: type) -> _Writer:
    """The function that writes items of a type; cached, so that its bases are searched once."""
    if issubclass(kind, Event):
        return _write_event
    if issubclass(kind, str):
        return lambda item: _write_text(str.__str__(item))
    if issubclass(kind, (bytes, bytearray, memoryview)):
        return _write_octets
    return _FOREIGN.get(_package_of(kind), _write_json)


_FOREIGN = {"fastapi": _write_fastapi, "sse_starlette": _write_sse_starlette}


def _package_of(kind: type) -> str:
    """The package whose event class this is, or a subclass of it: a key of `_FOREIGN`, or ""."""
    for base in kind.__mro__:
        if base.__name__ == "ServerSentEvent":
            package = base.__module__.removeprefix("tailrace.compat.").partition(".")[0]
            if package in _FOREIGN:
                return package
    return ""


def is_event(kind: Any) -> bool:
    """Whether a type is an event class: Tailrace's, FastAPI's or sse-starlette's."""
    return isinstance(kind, type) and _is_event_class(kind)


@lru_cache(maxsize=1024)  # asked for each item
def _is_event_class(kind: type) -> bool:
    return issubclass(kind, Event) or bool(_package_of(kind))


def _lines(field: str, text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return f"{field}: " + text.replace("\n", f"\n{field}: ") + "\n"


def _data_lines(octets: bytes) -> bytes:
    octets = octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return b"data: " + octets.replace(b"\n", b"\ndata: ") + b"\n"


def _one_line(text: str | None) -> str | None:
    return None if text is None else text.replace("\r", "").replace("\n", "")


def _encode(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        # Only the character is shown: the data may be long, and must not get into the log.
        reason = "a lone surrogate has no form in UTF-8"
        raise InvalidEvent("data", text[exc.start], reason) from exc


# The fields of an event ---------------------------------------------------------------------------


def _check_text(field: str, value: str) -> None:
    if not isinstance(value, str):
        raise InvalidEvent(field, value, "it must be a str")
    try:
        value.encode()
    except UnicodeEncodeError as exc:
        reason = f"the lone surrogate at character {exc.start} has no form in UTF-8"
        raise InvalidEvent(field, value, reason) from exc


def _check_line(field: str, value: str) -> None:
    _check_text(field, value)
    # Only these two end a line for an SSE parser; U+2028 does not, for example.
    if "\n" in value or "\r" in value:
        raise InvalidEvent(field, value, "it must be one line, without CR and LF")


def _check_no_nul(value: str) -> None:
    if "\0" in value:
        raise InvalidEvent("id", value, "clients ignore an id that holds NUL")


def _check_retry(value: int) -> None:
    # bool is an int: `retry=True` is a mistake, not one millisecond.
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_RETRY_MS:
        raise InvalidEvent("retry", value, f"it must be an int of 0 to {MAX_RETRY_MS} milliseconds")
