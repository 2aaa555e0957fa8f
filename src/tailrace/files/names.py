"""A file's name, written where others read it: a URL, a page, a program's text, an archive.

Names are bytes that anybody who can write a file has chosen. Here they come as `os.fsdecode` gives
them: what is not UTF-8 is a surrogate.
"""

from __future__ import annotations

import os
import re
from urllib.parse import quote

__all__ = ["archived", "href", "is_served", "natural_key", "shown", "text"]

_NUMBER = re.compile(r"([0-9]+)")

# Controls, and the marks that turn the direction of what follows: "gpj.exe" as "exe.jpg".
_INVISIBLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufffe\uffff]"
)

_CONTROL = re.compile("[\x00-\x1f\x7f]")

# What an unpacking program on another system takes for a separator or a drive, or cannot write.
_UNSAFE_IN_ARCHIVE = re.compile("[\x00-\x1f\x7f\\\\:]")


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
    """The name as Unicode that every program reads; bytes that are no UTF-8 become U+FFFD."""
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
