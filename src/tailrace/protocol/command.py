"""From a request to what it asks for. Pure: nothing is looked up, nothing waits.

One frozen command for each verb, or an error that says which header or parameter cannot be, and
what can. What depends on the stream (its content type, whether it is closed) is decided later.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final
from urllib.parse import unquote_plus

from tailrace import limits
from tailrace.errors import InvalidOffset, InvalidRequest
from tailrace.protocol.cursor import parse_cursor
from tailrace.protocol.fields import (
    Fields,
    content_type_of,
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
    "Append",
    "Command",
    "Create",
    "Delete",
    "Head",
    "Live",
    "Read",
    "command_of",
    "parse_append",
    "parse_create",
    "parse_read",
]


class Live(Enum):
    """How a reader waits for what comes; the values are those of the parameter `live`."""

    LONG_POLL = "long-poll"
    SSE = "sse"


@dataclass(frozen=True, slots=True)
class Create:
    """PUT.

    Args:
        path: The stream.
        new: What it is created with, still without the body.
    """

    path: str
    new: NewStream


@dataclass(frozen=True, slots=True)
class Append:
    """POST.

    Args:
        path: The stream.
        content_type: Of the body; None where it is not given.
        producer: Who appends.
        seq: `Stream-Seq`.
        close: The stream is closed after it.
    """

    path: str
    content_type: str | None
    producer: Producer | None
    seq: str | None
    close: bool


@dataclass(frozen=True, slots=True)
class Delete:
    """DELETE."""

    path: str


@dataclass(frozen=True, slots=True)
class Head:
    """HEAD."""

    path: str


@dataclass(frozen=True, slots=True)
class Read:
    """GET.

    Args:
        path: The stream.
        where: From where on.
        live: How to wait for what comes; None does not.
        cursor: The one of the answer before.
        resumed: `where` is what an EventSource got last (`Last-Event-ID`): it has come back.
        if_none_match: What the client has, as `ETag`s.
        otherwise: From where on, if `resumed` and `where` turns out to be no offset of the stream.
    """

    path: str
    where: Where
    live: Live | None = None
    cursor: int | None = None
    resumed: bool = False
    if_none_match: str | None = None
    otherwise: Where = Mark.BEGINNING


Command = Create | Append | Delete | Head | Read

_READ_PARAMETERS: Final = ("cursor", "live", "offset")


def command_of(
    method: str, path: str, query: bytes, fields: Fields, root: str = ""
) -> Command | None:
    """What a request asks for.

    Args:
        method: In capitals.
        path: The stream, checked.
        query: As it was sent.
        fields: The header fields.
        root: Where the application is mounted.

    Returns:
        The command; None for a method that streams do not have.

    Raises:
        InvalidRequest: A header or a parameter that cannot be (400); or InvalidOffset, ForkRefused.
    """
    match method:
        case "POST":
            return parse_append(path, fields)
        case "GET":
            return parse_read(path, query, fields)
        case "PUT":
            return parse_create(path, fields, root)
        case "HEAD":
            return Head(path)
        case "DELETE":
            return Delete(path)
        case _:
            return None


def parse_append(path: str, fields: Fields) -> Append:
    """What a POST asks for.

    Source: Durable Streams 5.2, 5.3.
    """
    _check_encoding(fields)
    content_type, seq = fields.get(b"content-type"), fields.get(b"stream-seq")
    return Append(
        path,
        # A client may send an empty one where it has no body.
        content_type_of(content_type) if content_type else None,
        producer_of(fields),
        None if seq is None else text_of("Stream-Seq", seq, limits.MAX_STREAM_SEQ_BYTES),
        is_true(fields.get(b"stream-closed")),
    )


def parse_create(path: str, fields: Fields, root: str) -> Create:
    """What a PUT asks for.

    Source: Durable Streams 5.1, 4.2.
    """
    _check_encoding(fields)
    content_type = fields.get(b"content-type")
    ttl, expires_at = fields.get(b"stream-ttl"), fields.get(b"stream-expires-at")
    if ttl is not None and expires_at is not None:
        raise InvalidRequest(
            "Stream-Expires-At", expires_at.decode("latin-1"), "it or Stream-TTL, not both"
        )
    return Create(
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
    """A stream has no encoding: its readers would not learn that its bytes are compressed."""
    encoding = fields.get(b"content-encoding")
    if encoding is not None and encoding.strip(b" \t").lower() not in (b"", b"identity"):
        raise InvalidRequest(
            "Content-Encoding", encoding.decode("latin-1"), "the bytes as they are"
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


def parse_read(path: str, query: bytes, fields: Fields) -> Read:
    """What a GET asks for.

    Source: Durable Streams 5.6 to 5.8, 8.
    """
    parameters = _parameters(query)
    live, token = _live(parameters.get("live")), parameters.get("offset")
    last_event_id = fields.get(b"last-event-id") if live is Live.SSE else None
    if token is None and live is not None and not last_event_id:
        raise InvalidRequest("offset", None, "-1, now, or a Stream-Next-Offset, to read live")
    asked = Mark.BEGINNING if token is None else where_of(token)
    resumed = _last_place(last_event_id)
    cursor, condition = parameters.get("cursor"), fields.get(b"if-none-match")
    return Read(
        path,
        asked if resumed is None else resumed,
        live,
        None if cursor is None else parse_cursor(cursor),
        resumed is not None,
        None if condition is None else condition.decode("latin-1"),
        Mark.BEGINNING if resumed is None else asked,
    )


def _last_place(last_event_id: bytes | None) -> Where | None:
    """Where an EventSource was, which keeps the URL that it was made with; None if it is new.

    It has its id from whoever answered last, which may have been another server, and a refusal ends
    it for good. So an id that is no offset is one that was not sent.
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
    """The parameters that are known, each at most once; others are not looked at."""
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
