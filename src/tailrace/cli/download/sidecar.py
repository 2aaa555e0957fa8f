"""What is remembered beside a partial file, as JSON. Pure.

The URL is kept as a hash only: it may hold a password or a signature.
"""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from typing import Any
from urllib.parse import urldefrag

from tailrace.cli.download.digest import read_digest
from tailrace.cli.download.resume import Record
from tailrace.cli.download.span import Span

__all__ = ["parse_record", "write_record"]

VERSION = 1


def write_record(record: Record, url: str) -> str:
    """The record as the text of a sidecar."""
    return json.dumps(
        {
            "tailrace_get": VERSION,
            "url_sha256": _hash(url),
            "validator": record.validator,
            "total": record.total,
            "missing": [[span.start, span.stop] for span in record.missing],
            "repr_digest": None if record.digest is None else record.digest.header(),
        },
        indent=1,
    )


def parse_record(text: str, url: str, size: int) -> Record | None:
    """The record in a sidecar; None unless all of it fits what is there.

    Args:
        text: The sidecar.
        url: What is to be downloaded: an entity tag says nothing about another URL's file.
        size: Bytes of the partial file. What is said to be there must fit into them.
    """
    try:
        record = _read(json.loads(text), url)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return record if _end(record) <= size else None


def _read(said: dict[str, Any], url: str) -> Record:
    if said["tailrace_get"] != VERSION or said["url_sha256"] != _hash(url):
        raise ValueError("of another version, or another URL")
    validator, total = said["validator"], said["total"]
    if not isinstance(validator, str | None) or not _is_count(total):
        raise ValueError("not what we wrote")
    if validator is not None and not (validator.isascii() and validator.isprintable()):
        raise ValueError("not a header's value")
    missing = tuple(_span(pair, total) for pair in said["missing"])
    if any(a.stop is None or a.stop > b.start for a, b in pairwise(missing)):
        raise ValueError("spans out of order")
    said_digest = said["repr_digest"]
    if not isinstance(said_digest, str | None):
        raise ValueError("not a header's value")
    digest = read_digest(said_digest)
    return Record(validator=validator, total=total, missing=missing, digest=digest)


def _span(pair: list[Any], total: int | None) -> Span:
    start, stop = pair
    if start is None or not _is_count(start) or not _is_count(stop) or stop == start:
        raise ValueError("not a span")
    if (stop is None) != (total is None) or (total is not None and stop > total):
        raise ValueError("a span beyond the end")
    return Span(start, stop)


def _is_count(value: Any) -> bool:
    return value is None or (type(value) is int and 0 <= value < 1 << 63)


def _end(record: Record) -> int:
    """The end of the last byte that is said to be there."""
    if not record.missing:
        return record.total or 0
    last = record.missing[-1]
    return last.start if last.stop == record.total else record.total or 0


def _hash(url: str) -> str:
    return hashlib.sha256(urldefrag(url).url.encode(errors="surrogatepass")).hexdigest()
