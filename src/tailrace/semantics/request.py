"""Where a request comes from and where it goes: another site's page, and a mounted application."""

from __future__ import annotations

from collections.abc import Collection, Iterable, MutableMapping
from typing import Any, Final, TypeAlias
from urllib.parse import unquote_to_bytes

__all__ = ["foreign_origin", "mounted"]

# A page of another site ---------------------------------------------------------------------------
#
# A browser sends a `POST` of plain text, a form or a beacon from any page to any server without
# asking first, with the user's cookies and from the user's machine: CORS only keeps the page from
# reading the answer. So a server to which pages of other sites must not write has to check itself.
#
# Two fields tell, and no page can set them. `Sec-Fetch-Site` says what the browser itself has
# found: `same-origin`, or `none` (the user's own doing). Browsers send it only to https and to
# their own machine. Where it is missing, `Origin` is compared with `Host`; the scheme is not, for a
# proxy may have ended TLS. A request with neither field does not come from a browser, or from one
# that is over ten years old.
#
# Source: RFC 6454 7; Fetch Metadata 2.3; the same decision as Go's `http.CrossOriginProtection`.

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""

_OWN_SITES: Final = (b"same-origin", b"none")


def foreign_origin(
    method: str, headers: Iterable[tuple[bytes, bytes]], allowed: Collection[str]
) -> str | None:
    """The origin of a request, if it comes from a page of another site and may not be carried out.

    Args:
        method: In capitals.
        headers: The request's; names in lower case.
        allowed: Origins beside the server's own whose pages may write; "*" is any.

    Returns:
        Its origin, as it was sent, or "another site"; None if the request is allowed.
    """
    if method in _SAFE_METHODS or "*" in allowed:
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
    origin = b", ".join(sorted(origins))  # two different ones, joined, match no site
    is_own = not origin or (host != b"" and origin.lower().partition(b"://")[2] == host)
    if origin.decode("latin-1") in allowed or (sites.issubset(_OWN_SITES) if sites else is_own):
        return None
    return origin.decode("latin-1") or "another site"


# A mounted application ----------------------------------------------------------------------------
#
# ASGI's `root_path` is where the application is mounted, and `path` begins with it. That is true in
# Starlette, FastAPI, BlackSheep and hypercorn's dispatcher (Quart). Litestar takes the mount's path
# off `path`, does not say so in `root_path`, and gives every path a slash at its end. There
# `raw_path`, which nobody changes, tells what was taken off and whether the slash was sent.
#
# Source: ASGI's HTTP scope, `path`, `raw_path` and `root_path`.

_Scope: TypeAlias = MutableMapping[str, Any]

_LITESTAR: Final = "litestar_app"
"""A key in the scope of every application that Litestar has mounted."""


def mounted(scope: _Scope) -> _Scope:
    """The scope with a `path` that begins with its `root_path`; from `raw_path`, if need be."""
    path: str = scope["path"]
    raw: bytes | None = scope.get("raw_path")
    if not raw or raw.decode("latin-1") == path:
        return scope
    sent = unquote_to_bytes(raw).decode("utf-8", "replace")
    if sent == path:
        return scope
    below = path if sent.endswith("/") else path.removesuffix("/")
    # Elsewhere, a middleware may have changed every path to "/" (one page for all of a site).
    is_below = below.startswith("/") or (not below and _LITESTAR in scope)
    if not is_below or not sent.endswith(below):
        return scope
    return {**scope, "path": sent, "root_path": sent[: len(sent) - len(below)]}
