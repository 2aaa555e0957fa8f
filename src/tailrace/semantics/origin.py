"""Whether a request that changes something comes from a page of another site.

A browser sends a `POST` of plain text, a form or a beacon from any page to any server without
asking first, with the user's cookies and from the user's machine: CORS only keeps the page from
reading the answer. So a server that is not to be written by strangers' pages looks for itself.

Two fields tell, and no page can set them. `Sec-Fetch-Site` says what the browser itself has found:
`same-origin`, or `none` (the user's own doing). It is sent to https and to this machine only. Where
it is missing, `Origin` is compared with `Host`; the scheme is not, for a proxy may have ended TLS.
A request without either field is none of a browser's, or of one that is over ten years old.

Source: RFC 6454 7; Fetch Metadata 2.3; the same decision as Go's `http.CrossOriginProtection`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

__all__ = ["SAFE_METHODS", "foreign_origin"]

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""

_OWN_SITES: Final = (b"same-origin", b"none")


def foreign_origin(
    method: str, headers: Iterable[tuple[bytes, bytes]], allowed: Collection[str]
) -> str | None:
    """The origin of a page that may not do what it asks for.

    Args:
        method: In capitals.
        headers: The request's; names in lower case.
        allowed: Origins beside the server's own whose pages may write; "*" is any.

    Returns:
        Its origin, as it was sent, or "another site"; None if nothing is against the request.
    """
    if method in SAFE_METHODS or "*" in allowed:
        return None
    host = b""
    origins: set[bytes] = set()
    sites: set[bytes] = set()
    for name, value in headers:
        if name == b"origin":
            origins.add(value)
        elif name == b"sec-fetch-site":
            sites.add(value.strip().lower())
        elif name == b"host":
            host = value.lower()
    origin = b", ".join(sorted(origins))  # two of them are nobody's
    is_own = not origin or (host != b"" and origin.lower().partition(b"://")[2] == host)
    if origin.decode("latin-1") in allowed or (sites.issubset(_OWN_SITES) if sites else is_own):
        return None
    return origin.decode("latin-1") or "another site"
