"""From a URL's path to the name of a stream.

A stream's name is the decoded path below the mount path (the path at which the application is
mounted), without the first slash. Proxies and clients rewrite some paths (`..`, empty segments).
Such a path is refused, since it could name one stream here and another there. So is an escape that
is not UTF-8: servers decode each such byte to U+FFFD, and two URLs would name one stream.
"""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes

from tailrace import limits
from tailrace.errors import ForkRefused, InvalidRequest

__all__ = ["RESERVED", "is_reserved", "location", "path_below", "source_path", "stream_path"]

RESERVED: Final = "__ds"
"""The first segment of paths that clients cannot use for streams. Below it are the subscription
APIs, and the streams that Tailrace makes for itself."""

_REFUSED: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]|(?:\A|/)\.{0,2}(?:/|\Z)")
"""Control characters, surrogates, empty segments, and the segments `.` and `..`."""

_RULE: Final = (
    "segments with a slash between them, none of them empty, '.' or '..', in UTF-8 without "
    f"control characters, {limits.MAX_STREAM_PATH_BYTES:,} bytes at most"
)
_HOST: Final = re.compile(rb"[A-Za-z0-9._~:\[\]-]{1,255}")
_PLAIN_PATH: Final = re.compile(rb"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")


def path_below(scope: Any) -> str | None:
    """The part of a request's path that follows the mount path.

    Returns:
        The part without its first slash; None if the path is not below the mount path.
    """
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    # Behind a proxy that strips a prefix, an application names that prefix
    # (`FastAPI(root_path=...)`): then the prefix is in `root_path`, but not in `path`.
    for prefix in (root, root.removeprefix(scope.get("app_root_path", ""))):
        if prefix and path.startswith(prefix):
            path = path[len(prefix) :]
            break
    return path[1:] if path.startswith("/") else None


def is_reserved(below: str) -> bool:
    """Whether a path is `__ds` or below it: it never names a client's stream."""
    return below.startswith(RESERVED) and below[len(RESERVED) :][:1] in ("", "/")


def stream_path(below: str, raw_path: bytes = b"") -> str:
    """The name of a stream, checked.

    Args:
        below: What `path_below` returned.
        raw_path: The whole path as it was sent; empty if it is not known.

    Raises:
        InvalidRequest: Not a valid name (400).
    """
    if (
        _REFUSED.search(below) is not None
        or (not below.isascii() and not _fits(below, raw_path))
        or len(below) > limits.MAX_STREAM_PATH_BYTES
    ):
        raise InvalidRequest("the path", below, _RULE)
    return below


def _fits(below: str, raw_path: bytes) -> bool:
    if len(below.encode()) > limits.MAX_STREAM_PATH_BYTES:
        return False
    # A server decodes a byte that is not UTF-8 to U+FFFD, and two URLs would name one stream.
    return "\ufffd" not in below or not raw_path or _is_utf8(raw_path)


def _is_utf8(raw_path: bytes) -> bool:
    try:
        unquote_to_bytes(raw_path).decode()
    except UnicodeDecodeError:
        return False
    return True


def source_path(value: bytes, root: str) -> str:
    """The name of the stream that is forked, checked.

    Args:
        value: `Stream-Forked-From`: the path of the stream's URL; or only the part of it after the
            mount path, without its first slash.
        root: The mount path.

    Raises:
        InvalidRequest: Not a valid name (400).
        ForkRefused: It is not below the mount path, or is reserved (404).
    """
    shown = value.decode("latin-1")
    try:
        text = unquote_to_bytes(value).decode()
    except UnicodeDecodeError:
        raise InvalidRequest("Stream-Forked-From", shown, "the path of a stream's URL") from None
    if text.startswith("/"):
        if not text.startswith(f"{root}/"):
            raise ForkRefused(text, "it is not on this server", 404)
        text = text[len(root) + 1 :]
    if is_reserved(text):
        raise ForkRefused(text, "it does not exist", 404)
    if _REFUSED.search(text) or len(text.encode()) > limits.MAX_STREAM_PATH_BYTES:
        raise InvalidRequest("Stream-Forked-From", shown, _RULE)
    return text


def location(scope: Any, host: bytes) -> bytes:
    """The URL of the stream that a request has created.

    Args:
        scope: The request's.
        host: Its Host header; if it is not valid, the URL is only a path.
    """
    path: bytes = scope.get("raw_path") or b""
    if _PLAIN_PATH.fullmatch(path) is None:
        path = _quoted(scope["path"])
    outer: str = scope.get("app_root_path", "")
    if outer and not scope["path"].startswith(f"{outer}/"):
        path = _quoted(outer) + path  # the prefix that a proxy has stripped
    if _HOST.fullmatch(host) is None:
        return path
    return b"%b://%b%b" % (scope.get("scheme", "http").encode(), host, path)


def _quoted(path: str) -> bytes:
    return quote(path, safe="/~!$&'()*+,;=:@").encode()
