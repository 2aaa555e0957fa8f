"""Header fields that many responses share, and a list that keeps them true.

They say three things of a response's bytes: that they are live, so that no cache or proxy holds
them; that somebody else has written them, so that no browser runs them; and what is true only of
the bytes as they were made (ETag, digests, ranges), which a middleware may still encode.

Source: RFC 9111 3, 5.2.2.5 (no-store); nginx, `X-Accel-Buffering`; CSP Level 3, 6.5.2 (sandbox);
Fetch 3.6 (X-Content-Type-Options); RFC 9110 8.8.1 and 8.8.3.3; RFC 9530; RFC 1864.
"""

from __future__ import annotations

from typing import Final

__all__ = ["DIGESTS", "LIVE_HEADERS", "SANDBOX_HEADERS", "ResponseFields"]

LIVE_HEADERS: Final = (("cache-control", "no-store"), ("x-accel-buffering", "no"))
"""Header fields of a response that is sent while it is made, unless the application gives others.

A cache may keep a response without `cache-control`: Varnish keeps it for 120 s, for every client.
nginx holds a response back until a buffer is full, unless the response forbids it.
"""

SANDBOX_HEADERS: Final = (
    ("x-content-type-options", "nosniff"),
    ("content-security-policy", "sandbox"),
)
"""Header fields of a response whose type or bytes somebody else has chosen.

Whoever writes a stream chooses its type and its bytes: HTML with a script, SVG, XML with a style
sheet. No browser may run them as a page of this origin. `sandbox` gives such a page an origin that
no other page shares, and no scripts; `nosniff` keeps a browser from taking other types for a page.
Both are on every response that may carry such bytes, whatever its type: a list of safe types would
be wrong some day.
"""

DIGESTS: Final = frozenset({b"content-digest", b"content-md5", b"digest", b"repr-digest"})
"""Fields that are true only of the bytes as they were made; in lower case."""

_UNTRUE: Final = DIGESTS | {b"accept-ranges"}


class ResponseFields(list[tuple[bytes, bytes]]):
    """The header fields of a response, as ASGI has them, which stay true if its body is encoded.

    A middleware that compresses appends `content-encoding` to the list that it was given, and
    leaves the rest as it is (Starlette's GZipMiddleware, brotli-asgi). Then one strong ETag would
    name two sequences of bytes, a client would join a range of one with a part of the other, and a
    digest would be wrong. So when `content-encoding` is appended, the list makes the ETag weak and
    offers no ranges, as nginx does where it compresses, and removes the digests. Only `append`
    differs from that of any list.
    """

    __slots__ = ()

    def append(self, field: tuple[bytes, bytes]) -> None:
        name, value = field
        if name.lower() == b"content-encoding" and value.lower() != b"identity":
            self[:] = [_weakened(each) for each in self if each[0].lower() not in _UNTRUE]
        super().append(field)


def _weakened(field: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    name, value = field
    if name.lower() != b"etag" or value.startswith(b"W/"):
        return field
    return name, b"W/" + value
