"""Validators and digests say no more than is true, whoever encodes the body."""

from __future__ import annotations

import pytest
from starlette.datastructures import MutableHeaders

from tailrace.semantics import ResponseFields

CODING = (b"content-encoding", b"gzip")


def encoded(*fields: tuple[bytes, bytes], coding: str = "gzip") -> list[tuple[bytes, bytes]]:
    """As a middleware of Starlette does it."""
    given = ResponseFields(fields)
    headers = MutableHeaders(raw=given)
    headers["Content-Encoding"] = coding
    assert given.pop() == (b"content-encoding", coding.encode())
    return list(given)


@pytest.mark.parametrize(
    ("etag", "told"), [(b'"v1"', b'W/"v1"'), (b'W/"v1"', b'W/"v1"'), (b'""', b'W/""')]
)
@pytest.mark.parametrize("name", [b"etag", b"ETag"])
def test_a_strong_etag_becomes_weak(name: bytes, etag: bytes, told: bytes) -> None:
    assert encoded((b"vary", b"cookie"), (name, etag)) == [(b"vary", b"cookie"), (name, told)]


@pytest.mark.parametrize(
    "name", [b"Accept-Ranges", b"Content-Digest", b"Repr-Digest", b"Digest", b"Content-MD5"]
)
def test_what_holds_of_the_plain_bytes_alone_is_left_out(name: bytes) -> None:
    rest = [(b"content-type", b"text/plain"), (b"last-modified", b"x")]
    assert encoded(rest[0], (name, b"x"), rest[1]) == rest
    assert encoded(rest[0], (name.lower(), b"x"), rest[1]) == rest


def test_no_coding_at_all_changes_nothing() -> None:
    assert encoded((b"etag", b'"v1"'), coding="identity") == [(b"etag", b'"v1"')]
    fields = ResponseFields([(b"etag", b'"v1"'), CODING])  # it is of these bytes already
    fields.append((b"vary", b"accept-encoding"))
    assert fields[0] == (b"etag", b'"v1"')
