"""What a request's path names below a directory: text and bytes in, names out, nothing touched.

The path is decoded exactly once. What is not a plain walk down (an empty name, a dot, two dots,
NUL) names nothing, in whatever encoding it came: `%2e%2e` is two dots here, `%252e` is the text
`%2e`, and overlong UTF-8 stays the bytes that it is, for no file system reads those as dots.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

__all__ = ["Target", "target_of"]


@dataclass(frozen=True, slots=True)
class Target:
    """A place below the directory that is served.

    Args:
        names: From the directory down; undecodable bytes are surrogates, as `os.fsdecode` has them.
        slash: The path ends with a slash, as a directory's must.
        mount: Where the directory itself is in the URL, without a slash at its end.
    """

    names: tuple[str, ...]
    slash: bool
    mount: str


def target_of(scope: Mapping[str, Any]) -> Target | None:
    """The place that a request's path names; None where it can name nothing.

    Source: ASGI's HTTP scope, `path`, `raw_path` and `root_path`.
    """
    try:
        path = _path_bytes(scope)
        root = os.fsencode(scope.get("root_path", "")).rstrip(b"/")
    except UnicodeEncodeError:  # a lone surrogate that stands for no byte
        return None
    mount = os.fsdecode(root)
    # What a proxy has taken off the path is in the root all the same (`FastAPI(root_path=...)`).
    outer = os.fsencode(scope.get("app_root_path") or "").rstrip(b"/")
    for front in (root, root.removeprefix(outer)):
        if path == front:  # mounted without the slash
            return Target((), not mount, mount)
        if path.startswith(front + b"/"):
            path = path[len(front) :]
            break
    if b"\0" in path or not path.startswith(b"/"):
        return None
    parts = path[1:].split(b"/")
    slash = parts[-1] == b""
    if slash:
        parts.pop()
    if any(part in (b"", b".", b"..") for part in parts):
        return None
    return Target(tuple(os.fsdecode(part) for part in parts), slash, mount)


def _path_bytes(scope: Mapping[str, Any]) -> bytes:
    """The path's bytes: a name on disk need not be UTF-8, and `path` has lost what is not.

    `raw_path` counts only where it says the same: a middleware that rewrites or checks `path` must
    not be passed by.
    """
    path: str = scope["path"]
    raw = scope.get("raw_path")
    if raw is not None:
        decoded = unquote_to_bytes(raw)
        if decoded.decode("utf-8", "replace") == path:
            return decoded
    return os.fsencode(path)
