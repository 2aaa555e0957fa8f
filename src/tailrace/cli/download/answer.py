"""What a server says in the head of its answer, as far as a download cares. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from tailrace.cli.download.digest import Digest, read_digest
from tailrace.cli.download.name import name_from_header
from tailrace.cli.download.span import Span

__all__ = ["Answer", "read_answer"]

_CONTENT_RANGE = re.compile(
    r"bytes\s+(?:([0-9]{1,19})-([0-9]{1,19})|\*)/(?:([0-9]{1,19})|\*)", re.IGNORECASE
)
_ETAG = re.compile(r'(W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_LENGTH = re.compile(r"[0-9]{1,19}")

_STRONG_AGE = 1.0
"""Seconds that Last-Modified must be before Date to be strong: RFC 9110 section 8.8.2.2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The head of one answer.

    Args:
        status: The HTTP status.
        part: What of the file follows, where Content-Range says so.
        length: Bytes of this message's content, where Content-Length says so.
        total: Bytes of the whole file, where Content-Range says so, or Content-Length of a 200.
        tag: The entity tag, strong or weak, as it was sent.
        validator: What If-Range may say to get the rest of this very file: a strong entity tag,
            or a Last-Modified that is strong; None where nothing tells one version from another.
        name: A safe file name from Content-Disposition.
        content_digest: Of this message's content.
        whole_digest: Of the whole file.
        retry_after: Seconds that the server asks to wait.
    """

    status: int
    part: Span | None = None
    length: int | None = None
    total: int | None = None
    tag: str | None = None
    validator: str | None = None
    name: str | None = None
    content_digest: Digest | None = None
    whole_digest: Digest | None = None
    retry_after: float | None = None


def read_answer(status: int, headers: Mapping[str, str], now: datetime) -> Answer:
    """Read the head of an answer; what is malformed counts as not sent.

    Args:
        status: The HTTP status.
        headers: By name, in any case.
        now: The time, with its zone, for a Retry-After that is a date.
    """
    length = _length(headers.get("content-length"))
    part, total = _content_range(headers.get("content-range"))
    if status == 200:
        part, total = None, length
    tag = headers.get("etag", "").strip()
    return Answer(
        status=status,
        part=part,
        length=length,
        total=total,
        tag=tag if _ETAG.fullmatch(tag) else None,
        validator=_validator(tag, headers.get("last-modified"), headers.get("date")),
        name=name_from_header(headers.get("content-disposition")),
        content_digest=read_digest(headers.get("content-digest")),
        whole_digest=read_digest(headers.get("repr-digest")),
        retry_after=_retry_after(headers.get("retry-after"), now),
    )


def _length(value: str | None) -> int | None:
    return int(value) if value is not None and _LENGTH.fullmatch(value.strip()) else None


def _content_range(value: str | None) -> tuple[Span | None, int | None]:
    match = _CONTENT_RANGE.fullmatch((value or "").strip())
    if match is None:
        return None, None
    total = int(match[3]) if match[3] else None
    if match[1] is None:
        return None, total
    first, last = int(match[1]), int(match[2])
    if last < first or (total is not None and last >= total):
        return None, None
    return Span(first, last + 1), total


def _validator(tag: str, modified: str | None, date: str | None) -> str | None:
    """Source: RFC 9110 sections 8.8.2.2 and 13.1.5."""
    if _ETAG.fullmatch(tag):
        # A server that sends a weak tag says that it cannot tell byte from byte; then its
        # Last-Modified must not be used either.
        return None if tag.startswith("W/") else tag
    changed, sent = _date(modified), _date(date)
    if modified is None or changed is None or sent is None:
        return None
    return modified.strip() if (sent - changed).total_seconds() >= _STRONG_AGE else None


def _date(value: str | None) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value or "")
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _retry_after(value: str | None, now: datetime) -> float | None:
    """Source: RFC 9110 section 10.2.3."""
    text = (value or "").strip()
    if _LENGTH.fullmatch(text):
        return float(text)
    moment = _date(text)
    return None if moment is None else max(0.0, (moment - now).total_seconds())
