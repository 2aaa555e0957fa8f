"""Names of files: as a request's path has them, and written where others read them.

A path is decoded exactly once. What is not a plain walk down (an empty name, a dot, two dots, NUL)
names nothing, in whatever encoding it came: `%2e%2e` is two dots here, `%252e` is the text `%2e`,
and overlong UTF-8 stays the bytes that it is, for no file system reads those as dots.

Names are bytes that anybody who can write a file has chosen. Here they come as `os.fsdecode` gives
them: what is not UTF-8 is a surrogate.
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

# Controls, and the marks that turn the direction of what follows: "gpj.exe" as "exe.jpg".
_INVISIBLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufffe\uffff]"
)

_CONTROL = re.compile("[\x00-\x1f\x7f]")

# What an unpacking program on another system takes for a separator or a drive, or cannot write; and
# a percent sign that looks like one of these escaped.
_UNSAFE_IN_ARCHIVE = re.compile(
    "[\x00-\x1f\x7f\\\\:]|%(?=[01][0-9A-F]|25|3A|5C|7F|[89A-F][0-9A-F])"
)


def is_served(name: str, *, hidden: bool) -> bool:
    """Whether a file of this name is served and shown, wherever it is.

    One with a control character is not. Routers do not match a path that holds a line break
    (Starlette's patterns end there), so it would be listed and not be had; and what else reads such
    names, line by line, is better spared.

    Args:
        name: In its directory.
        hidden: Names that begin with a dot are.
    """
    return _CONTROL.search(name) is None and (hidden or not name.startswith("."))


def text(name: str) -> str:
    """The name as Unicode that every program reads; bytes that are not UTF-8 become U+FFFD."""
    return os.fsencode(name).decode("utf-8", "replace")


def shown(name: str) -> str:
    """The name for a person: as `text`, and nothing in it is invisible or turns the direction."""
    return _INVISIBLE.sub("\ufffd", text(name))


def href(name: str) -> str:
    """A relative reference to the name, byte for byte: no scheme, query or host can be in it."""
    return quote(os.fsencode(name), safe="")


def archived(name: str) -> str:
    """The name within an archive: what could lead elsewhere when it is unpacked is escaped as %XX.

    Escaped, not replaced: two names stay two.
    """
    readable = _UNSAFE_IN_ARCHIVE.sub(lambda found: f"%{ord(found.group()):02X}", name)
    return re.sub("[\udc80-\udcff]", lambda found: f"%{ord(found.group()) - 0xDC00:02X}", readable)


def natural_key(name: str) -> tuple[list[str | int], str]:
    """A key that sorts as people count: file 2 before file 10, and case last."""
    # Every second part is digits, so a number is compared with numbers only. A name has at most
    # 255 bytes, too few for int() to refuse.
    parts = _NUMBER.split(name.casefold())
    return [int(part) if at % 2 else part for at, part in enumerate(parts)], name


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
