"""Names of files: read from a request's path, and written for pages, JSON and archives.

A path is decoded exactly once. A path that is not a plain walk down (one with an empty name, one
dot, two dots or NUL) names nothing, in any encoding: `%2e%2e` is two dots, `%252e` is the text
`%2e`, and overlong UTF-8 stays as its bytes, which no file system reads as dots.

A name is bytes, chosen by anyone who can write a file. Here it is what `os.fsdecode` gives: bytes
that are not UTF-8 are surrogates.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote_to_bytes

__all__ = ["Target", "archived", "href", "is_served", "natural_key", "shown", "target_of", "text"]

_NUMBER = re.compile(r"([0-9]+)")

# Controls, and marks that change the direction of text: they can show "gpj.exe" as "exe.jpg".
_INVISIBLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufffe\uffff]"
)

_CONTROL = re.compile("[\x00-\x1f\x7f]")

# Characters that an unpacking program takes for a separator or a drive, or cannot write; and a
# percent sign that begins what looks like an escape of one of these.
_UNSAFE_IN_ARCHIVE = re.compile(
    "[\x00-\x1f\x7f\\\\:]|%(?=[01][0-9A-F]|25|3A|5C|7F|[89A-F][0-9A-F])"
)


def is_served(name: str, *, hidden: bool) -> bool:
    """Whether a file or directory of this name is served and listed.

    A name with a control character is not. Routers do not match a path with a line break
    (Starlette's patterns end there), so it would be listed but could not be opened. And programs
    that read names line by line would take it for two.

    Args:
        name: The name in its directory.
        hidden: Names that begin with a dot are served.
    """
    return _CONTROL.search(name) is None and (hidden or not name.startswith("."))


def text(name: str) -> str:
    """The name as valid Unicode; bytes that are not UTF-8 become U+FFFD."""
    return os.fsencode(name).decode("utf-8", "replace")


def shown(name: str) -> str:
    """The name for people: as `text`, without characters that are invisible or turn the text."""
    return _INVISIBLE.sub("\ufffd", text(name))


def href(name: str) -> str:
    """A relative reference to exactly this name; it can have no scheme, host or query."""
    return quote(os.fsencode(name), safe="")


def archived(name: str) -> str:
    """The name in an archive: what could lead elsewhere when it is unpacked is escaped as %XX.

    It is escaped, not replaced, so that two different names stay different.
    """
    readable = _UNSAFE_IN_ARCHIVE.sub(lambda found: f"%{ord(found.group()):02X}", name)
    return re.sub("[\udc80-\udcff]", lambda found: f"%{ord(found.group()) - 0xDC00:02X}", readable)


def natural_key(name: str) -> tuple[list[str | int], str]:
    """A key that sorts names as people do: "file 2" before "file 10"; case counts last."""
    # Every second part is digits, so numbers are compared only with numbers. A name has at most 255
    # bytes, which is short enough for int().
    parts = _NUMBER.split(name.casefold())
    return [int(part) if at % 2 else part for at, part in enumerate(parts)], name


@dataclass(frozen=True, slots=True)
class Target:
    """A place below the directory that is served.

    Args:
        names: The names from the directory down, as `os.fsdecode` gives them.
        slash: The path ends with a slash, as that of a directory must.
        mount: The path of the directory itself in the URL, without a slash at its end.
    """

    names: tuple[str, ...]
    slash: bool
    mount: str


def target_of(scope: Mapping[str, Any]) -> Target | None:
    """The place that a request's path names; None if it cannot name one.

    Source: ASGI's HTTP scope, `path`, `raw_path` and `root_path`.
    """
    try:
        path = _path_bytes(scope)
        root = os.fsencode(scope.get("root_path", "")).rstrip(b"/")
    except UnicodeEncodeError:  # a lone surrogate that stands for no byte
        return None
    mount = os.fsdecode(root)
    # With `FastAPI(root_path=...)`, the root also has what a proxy has removed from the path.
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
    """The path's bytes: a name on disk need not be UTF-8, and `path` has lost bytes that are not.

    `raw_path` is used only if it says the same as `path`: otherwise a request could bypass a
    middleware that rewrites or checks `path`.
    """
    path: str = scope["path"]
    raw = scope.get("raw_path")
    if raw is not None:
        decoded = unquote_to_bytes(raw)
        if decoded.decode("utf-8", "replace") == path:
            return decoded
    return os.fsencode(path)
