"""Whether a response is compressed, and how: decided from its headers and the request's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Scope

from tailrace.framing import ENCODINGS, Codec, codec_for, is_compressible
from tailrace.semantics import choose_encoding

__all__ = ["Encoding", "encoding_for"]

_WITHOUT_BODY_OR_WHOLE = frozenset({204, 206, 304})
"""No body, or a part of one whose offsets are those of the plain bytes."""


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
    scope: Scope, status: int, raw_headers: list[tuple[bytes, bytes]], media_type: str | None
) -> Encoding:
    """Choose the content coding by Accept-Encoding.

    What has a coding, a length or a range already is left alone, and so is what is compressed by
    its nature (images, films, archives) or forbidden to be (`no-transform`).

    Source: RFC 9110 8.4, 12.5.3 and 12.5.5; RFC 9111 5.2.2.6.
    """
    headers = MutableHeaders(raw=list(raw_headers))
    given = any(name in headers for name in ("content-encoding", "content-length", "content-range"))
    forbidden = "no-transform" in headers.get("cache-control", "").lower()
    if given or forbidden or status in _WITHOUT_BODY_OR_WHOLE:
        return Encoding(headers.raw, None)
    if not is_compressible(headers.get("content-type", media_type)):
        return Encoding(headers.raw, None)
    headers.add_vary_header("accept-encoding")
    accepted = Headers(scope=scope).getlist("accept-encoding") if "headers" in scope else []
    name = choose_encoding(", ".join(accepted) if accepted else None, ENCODINGS)
    if name is None:
        return Encoding(headers.raw, None)
    headers["content-encoding"] = name
    return Encoding(headers.raw, partial(codec_for, name))
