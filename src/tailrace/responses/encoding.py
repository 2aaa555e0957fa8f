"""Whether a response is compressed, and how: decided from its headers and the request's.

A middleware that looks at bodies looks for what the application has yielded: where one may stand in
between, the bytes are left as they are. What compresses belongs around it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Scope, Send

from tailrace.connection import is_clear
from tailrace.framing import ENCODINGS, Codec, codec_for, is_compressible
from tailrace.semantics import DIGESTS, ResponseFields, choose_encoding

__all__ = ["Encoding", "encoding_for"]

_WITHOUT_BODY_OR_WHOLE = frozenset({204, 206, 304})
"""No body, or a part of one whose offsets are those of the plain bytes."""

_OF_THESE_BYTES = frozenset(
    {"content-encoding", "content-length", "content-range", *(name.decode() for name in DIGESTS)}
)
"""Headers that would not hold of others."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """The content coding of one response.

    Args:
        headers: The response's headers, with the coding's own.
        make_codec: Makes the compressor; None leaves the bytes as they are.
    """

    headers: list[tuple[bytes, bytes]]
    make_codec: Callable[[], Codec] | None


def encoding_for(
    scope: Scope,
    status: int,
    raw_headers: list[tuple[bytes, bytes]],
    media_type: str | None,
    send: Send,
) -> Encoding:
    """Choose the content coding by Accept-Encoding.

    What has a coding, a length, a range or a digest already is left alone, and so is what is
    compressed by its nature (images, films, archives), forbidden to be (`no-transform`), or may be
    looked at by what is in front. A strong ETag becomes weak: it is of the plain bytes.

    Source: RFC 9110 8.4, 8.8.3.3, 12.5.3 and 12.5.5; RFC 9111 5.2.2.6.
    """
    # They see that a coding is added, and stay true.
    headers = MutableHeaders(raw=ResponseFields(raw_headers))
    if status in _WITHOUT_BODY_OR_WHOLE or not _may_be_encoded(headers, media_type):
        return Encoding(headers.raw, None)
    if not is_clear(send):
        return Encoding(headers.raw, None)
    headers.add_vary_header("accept-encoding")
    accepted = Headers(scope=scope).getlist("accept-encoding") if "headers" in scope else []
    name = choose_encoding(", ".join(accepted) if accepted else None, ENCODINGS)
    if name is None:
        return Encoding(headers.raw, None)
    headers["content-encoding"] = name
    return Encoding(headers.raw, partial(codec_for, name))


def _may_be_encoded(headers: MutableHeaders, media_type: str | None) -> bool:
    if any(name in headers for name in _OF_THESE_BYTES):
        return False
    if "no-transform" in headers.get("cache-control", "").lower():
        return False
    return is_compressible(headers.get("content-type", media_type))
