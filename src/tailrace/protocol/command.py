"""What a request asks for: one frozen command for each method. Pure: nothing waits.

If a header or a parameter is not valid, the error names it and says what is valid. What depends on
the stream (its content type, whether it is closed) is checked later.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final
from urllib.parse import unquote_plus

from tailrace import limits
from tailrace.errors import InvalidOffset, InvalidRequest
from tailrace.protocol.fields import (
    Fields,
    content_type_of,
    cursor_of,
    instant_of,
    is_true,
    number_of,
    offset_of,
    producer_of,
    text_of,
    where_of,
)
from tailrace.protocol.path import source_path
from tailrace.store import Fork, Mark, NewStream, Producer, Retention, Where

__all__ = [
    "Command",
    "Delete",
    "Get",
    "Head",
    "Live",
    "Post",
    "Put",
    "command_of",
    "parse_get",
    "parse_post",
    "parse_put",
]


class Live(Enum):
    """How a reader waits for new data: the values of the parameter `live`."""

    LONG_POLL = "long-poll"
    SSE = "sse"


@dataclass(frozen=True, slots=True)
class Put:
    """Create a stream.

    Args:
        path: The stream.
        new: What it is created with, except the body, which is read later.
    """

    path: str
    new: NewStream


@dataclass(frozen=True, slots=True)
class Post:
    """Append the body to a stream, close the stream, or both.

    Args:
        path: The stream.
        content_type: Of the body; None if it is not given.
        producer: The producer that appends, and its number for this append; None if not given.
        seq: `Stream-Seq`; None if not given.
        close: Whether the stream is closed after the append.
    """

    path: str
    content_type: str | None
    producer: Producer | None
    seq: str | None
    close: bool


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a stream."""

    path: str


@dataclass(frozen=True, slots=True)
class Head:
    """Describe a stream."""

    path: str


@dataclass(frozen=True, slots=True)
class Get:
    """Read a stream.

    Args:
        path: The stream.
        where: Where to begin.
        live: How to wait for new data; None: do not wait.
        cursor: The cursor of the client's last answer; None if it sends none.
        resumed: An EventSource has reconnected, and `where` is its `Last-Event-ID`.
        if_none_match: `If-None-Match`, the ETags of what the client has; None if not given.
        otherwise: Where the URL says to begin; it counts if `resumed`, and `where` is not an offset
            of the stream.
    """

    path: str
    where: Where
    live: Live | None = None
    cursor: int | None = None
    resumed: bool = False
    if_none_match: str | None = None
    otherwise: Where = Mark.BEGINNING


Command = Put | Post | Delete | Head | Get

_READ_PARAMETERS: Final = ("cursor", "live", "offset")


def command_of(
    method: str, path: str, query: bytes, fields: Fields, root: str = ""
) -> Command | None:
    """What a request asks for.

    Args:
        method: In capitals.
        path: The stream's name, checked.
        query: The query string as it was sent.
        fields: The header fields.
        root: The mount path.

    Returns:
        The command; None for a method that streams do not support.

    Raises:
        InvalidRequest: A header or a parameter is not valid (400).
        InvalidOffset: An offset is not valid (400).
        ForkRefused: The source of the fork is not below the mount path, or is reserved (404).
    """
    match method:
        case "POST":
            return parse_post(path, fields)
        case "GET":
            return parse_get(path, query, fields)
        case "PUT":
            return parse_put(path, fields, root)
        case "HEAD":
            return Head(path)
        case "DELETE":
            return Delete(path)
        case _:
            return None


def parse_post(path: str, fields: Fields) -> Post:
    """What a POST asks for.

    Source: Durable Streams 5.2, 5.3.
    """
    _check_encoding(fields)
    content_type, seq = fields.get(b"content-type"), fields.get(b"stream-seq")
    return Post(
        path,
        # A client that sends no body may send an empty Content-Type.
        content_type_of(content_type) if content_type else None,
        producer_of(fields),
        None if seq is None else text_of("Stream-Seq", seq, limits.MAX_STREAM_SEQ_BYTES),
        is_true(fields.get(b"stream-closed")),
    )


def parse_put(path: str, fields: Fields, root: str) -> Put:
    """What a PUT asks for.

    Source: Durable Streams 5.1, 4.2.
    """
    _check_encoding(fields)
    content_type = fields.get(b"content-type")
    ttl, expires_at = fields.get(b"stream-ttl"), fields.get(b"stream-expires-at")
    if ttl is not None and expires_at is not None:
        raise InvalidRequest(
            "Stream-Expires-At",
            expires_at.decode("latin-1"),
            "either Stream-Expires-At or Stream-TTL, not both",
        )
    return Put(
        path,
        NewStream(
            content_type=content_type_of(content_type) if content_type else None,
            closed=is_true(fields.get(b"stream-closed")),
            ttl=None if ttl is None else number_of("Stream-TTL", ttl, most=limits.MAX_TTL),
            expires_at=(
                None if expires_at is None else instant_of("Stream-Expires-At", expires_at)
            ),
            retention=_retention(fields),
            fork=_fork(fields, root),
        ),
    )


def _check_encoding(fields: Fields) -> None:
    """Refuse a body with an encoding: readers would not learn that the bytes are compressed."""
    encoding = fields.get(b"content-encoding")
    if encoding is not None and encoding.strip(b" \t").lower() not in (b"", b"identity"):
        raise InvalidRequest(
            "Content-Encoding",
            encoding.decode("latin-1"),
            "no Content-Encoding, and send the bytes as they are",
        )
    transfer = fields.get(b"transfer-encoding")
    if transfer is not None and transfer.strip(b" \t").lower() != b"chunked":
        raise InvalidRequest("Transfer-Encoding", transfer.decode("latin-1"), "chunked")


def _retention(fields: Fields) -> Retention:
    def bound(name: str, most: int = limits.MAX_SEQUENCE) -> int | None:
        value = fields.get(name.lower().encode())
        return None if value is None else number_of(name, value, 1, most)

    return Retention(
        max_bytes=bound("Stream-Retain-Bytes"),
        max_records=bound("Stream-Retain-Records"),
        max_age=bound("Stream-Retain-Age", limits.MAX_TTL),
    )


def _fork(fields: Fields, root: str) -> Fork | None:
    source = fields.get(b"stream-forked-from")
    offset, sub_offset = fields.get(b"stream-fork-offset"), fields.get(b"stream-fork-sub-offset")
    if source is None:
        if offset is not None or sub_offset is not None:
            raise InvalidRequest("Stream-Forked-From", None, "the stream that is forked")
        return None
    return Fork(
        source_path(source, root),
        None if offset is None else offset_of(offset),
        0 if sub_offset is None else number_of("Stream-Fork-Sub-Offset", sub_offset),
    )


def parse_get(path: str, query: bytes, fields: Fields) -> Get:
    """What a GET asks for.

    Source: Durable Streams 5.6 to 5.8, 8.
    """
    parameters = _parameters(query)
    live, token = _live(parameters.get("live")), parameters.get("offset")
    last_event_id = fields.get(b"last-event-id") if live is Live.SSE else None
    if token is None and live is not None and not last_event_id:
        raise InvalidRequest("offset", None, "-1, now, or a Stream-Next-Offset, to read live")
    asked = Mark.BEGINNING if token is None else where_of(token)
    resumed = _resume_offset(last_event_id)
    cursor, condition = parameters.get("cursor"), fields.get(b"if-none-match")
    return Get(
        path,
        asked if resumed is None else resumed,
        live,
        None if cursor is None else cursor_of(cursor),
        resumed is not None,
        None if condition is None else condition.decode("latin-1"),
        Mark.BEGINNING if resumed is None else asked,
    )


def _resume_offset(last_event_id: bytes | None) -> Where | None:
    """The offset up to which an EventSource has everything; None if it sends none.

    An EventSource sends the id of its last event, which may have come from another server that
    answered at the same URL. A refusal would end the EventSource for good. So an id that is not an
    offset is ignored.
    """
    try:
        return where_of(last_event_id.decode("latin-1")) if last_event_id else None
    except InvalidOffset:
        return None


def _live(value: str | None) -> Live | None:
    if value is None:
        return None
    try:
        return Live(value)
    except ValueError:
        raise InvalidRequest("live", value, "long-poll or sse") from None


def _parameters(query: bytes) -> dict[str, str]:
    """The parameters that have a meaning, each at most once; others are ignored."""
    if len(query) > limits.MAX_QUERY_BYTES:
        most = limits.MAX_QUERY_BYTES
        raise InvalidRequest("the query", query.decode("latin-1"), f"{most} bytes at most")
    found: dict[str, str] = {}
    for part in query.decode("latin-1").split("&"):
        name, _, value = part.partition("=")
        name = unquote_plus(name)
        if name in _READ_PARAMETERS:
            if name in found:
                raise InvalidRequest(name, unquote_plus(value), "one value")
            found[name] = unquote_plus(value)
    return found
