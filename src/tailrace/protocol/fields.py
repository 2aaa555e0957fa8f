"""Values of header fields and parameters, read strictly: an ambiguous one is refused."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Final

from tailrace import limits
from tailrace.errors import InvalidRequest
from tailrace.store import Mark, Offset, Producer, Where

__all__ = [
    "Fields",
    "content_type_of",
    "cursor_of",
    "fields_of",
    "instant_of",
    "is_true",
    "number_of",
    "offset_of",
    "producer_of",
    "text_of",
    "where_of",
]

Fields = dict[bytes, bytes]
"""Header fields by lower-case name."""

_NUMBER: Final = re.compile(rb"0|[1-9][0-9]{0,15}")
_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_MEDIA_TYPE: Final = re.compile(_TOKEN + rb"/" + _TOKEN + rb"[ \t]*(?:;[\x20-\x7e\t]*)?")
_RFC3339: Final = re.compile(
    rb"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?"
    rb"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)
_ONCE: Final = (b"content-type", b"content-length", b"last-event-id", b"host")
_CURSOR: Final = re.compile(r"[0-9]{1,15}", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def fields_of(headers: Iterable[tuple[bytes, bytes]]) -> Fields:
    """Header fields by name; the values of a field that is repeated are joined with commas.

    Raises:
        InvalidRequest: A field is repeated that may be given only once (400). Such a request can be
            an attack: a proxy may use the first value, and this server the second.
    """
    pairs = headers if isinstance(headers, list) else list(headers)
    fields = dict(pairs)
    return fields if len(fields) == len(pairs) else _joined(pairs)


def _joined(pairs: list[tuple[bytes, bytes]]) -> Fields:
    fields: Fields = {}
    for name, value in pairs:
        if name not in fields:
            fields[name] = value
        elif name in _ONCE or name.startswith((b"stream-", b"producer-")):
            raise InvalidRequest(_name(name), f"{_text(fields[name])}, {_text(value)}", "one value")
        else:
            fields[name] += b", " + value
    return fields


def is_true(value: bytes | None) -> bool:
    """Whether the value of `Stream-Closed` is `true`; any other is ignored.

    Source: Durable Streams 4.1.
    """
    return value is not None and value.strip(b" \t").lower() == b"true"


def number_of(name: str, value: bytes, least: int = 0, most: int = limits.MAX_SEQUENCE) -> int:
    """A whole number in decimal digits: no sign, point, exponent or leading zero.

    Raises:
        InvalidRequest: It is not such a number, or not from `least` to `most` (400).
    """
    if _NUMBER.fullmatch(value) is None or not least <= (number := int(value)) <= most:
        raise InvalidRequest(
            name, _text(value), f"a whole number from {least} to {most} in plain digits"
        )
    return number


def text_of(name: str, value: bytes, most: int) -> str:
    """An opaque value, one character for each byte, so that it sorts as its bytes do.

    Raises:
        InvalidRequest: It is empty or too long (400).
    """
    if not 1 <= len(value) <= most:
        raise InvalidRequest(name, _text(value), f"1 to {most} bytes")
    return value.decode("latin-1")


def producer_of(fields: Fields) -> Producer | None:
    """The producer that appends, and its number for the append; None if none is given.

    Raises:
        InvalidRequest: Only some of the three fields are given, or one is not valid (400).

    Source: Durable Streams 5.2.1.
    """
    id_ = fields.get(b"producer-id")
    epoch, seq = fields.get(b"producer-epoch"), fields.get(b"producer-seq")
    if id_ is None or epoch is None or seq is None:
        if id_ is epoch is seq:  # all of them None
            return None
        missing = "Id" if id_ is None else "Epoch" if epoch is None else "Seq"
        raise InvalidRequest(f"Producer-{missing}", None, "all three Producer headers, or none")
    return Producer(
        text_of("Producer-Id", id_, limits.MAX_PRODUCER_ID_BYTES),
        number_of("Producer-Epoch", epoch),
        number_of("Producer-Seq", seq),
    )


@lru_cache(maxsize=256)
def content_type_of(value: bytes) -> str:
    """A media type, in the client's spelling.

    Raises:
        InvalidRequest: It is not a media type (400).
    """
    value = value.strip(b" \t")
    if len(value) > limits.MAX_CONTENT_TYPE_BYTES or _MEDIA_TYPE.fullmatch(value) is None:
        most = limits.MAX_CONTENT_TYPE_BYTES
        raise InvalidRequest("Content-Type", _text(value), f"type/subtype, {most} bytes at most")
    return value.decode("ascii")


def instant_of(name: str, value: bytes) -> int:
    """A time of RFC 3339, in milliseconds since the epoch; fractions of one are dropped.

    Raises:
        InvalidRequest: It is not such a time, or is before the epoch (400).
    """
    match = _RFC3339.fullmatch(value)
    try:
        if match is None:
            raise ValueError
        year, month, day, hour, minute, second = map(int, match.groups()[:6])
        leap, second = (1, 59) if second == 60 else (0, second)
        fraction = int((match[7] or b"0")[:3].ljust(3, b"0"))
        shift = timedelta(hours=int(match[9] or 0), minutes=int(match[10] or 0))
        zone = timezone(-shift if match[8] == b"-" else shift)
        instant = datetime(year, month, day, hour, minute, second, tzinfo=zone).astimezone(UTC)
        if instant < _EPOCH:
            raise ValueError
    except (ValueError, OverflowError):  # the 31st of February; a year that UTC does not have
        raise InvalidRequest(
            name, _text(value), "a time such as 2026-11-22T14:00:00Z (RFC 3339)"
        ) from None
    return ((instant - _EPOCH) // timedelta(seconds=1) + leap) * 1000 + fraction


def where_of(token: str) -> Where:
    """A place in a stream: an offset, `-1` or `now`.

    Raises:
        InvalidOffset: It is not an offset (400).

    Source: Durable Streams 8.
    """
    if token == Mark.BEGINNING.value:
        return Mark.BEGINNING
    if token == Mark.TAIL.value:
        return Mark.TAIL
    return Offset.parse(token)


def cursor_of(text: str) -> int | None:
    """The cursor that a client sends back; None, as if it sent none, if it is not a number.

    Source: Durable Streams 10.1.
    """
    return int(text) if _CURSOR.fullmatch(text) else None


def offset_of(value: bytes) -> Offset:
    """An offset in a header field.

    Raises:
        InvalidOffset: It is not an offset (400).
    """
    return Offset.parse(_text(value))


def _name(name: bytes) -> str:
    return "-".join(part.capitalize() for part in _text(name).split("-"))


def _text(value: bytes) -> str:
    return value.decode("latin-1")
