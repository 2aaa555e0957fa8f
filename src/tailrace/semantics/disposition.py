"""The name under which a client keeps a body: Content-Disposition.

A name comes from anywhere: an upload, a title, a file system that holds any bytes. It must not
break the header, must not lead into another folder, and must not look like another name; and every
client should see it as well as it can. So harmful characters are replaced, and a name that is not
plain ASCII is written twice: once for clients that know RFC 8187, and once in a form that older
clients can read.

Source: RFC 6266; RFC 8187.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final
from urllib.parse import quote

from tailrace.errors import InvalidOption
from tailrace.limits import MAX_FILENAME_CHARS

__all__ = ["content_disposition"]

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HARMFUL = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # control characters: a line break ends the header
    "\u2028\u2029"  # line breaks of Unicode
    "\u200e\u200f\u202a-\u202e\u2066-\u2069"  # "exe.pdf" that is shown as "fdp.exe"
    "/\\\\"  # folders
    "\ud800-\udfff"  # in Python: bytes of a file system that are not text
    "]"
)
_NOT_PLAIN = re.compile(r'[^\x20-\x7e]|["%]')
"""Characters that the plain form cannot carry: not all clients decode `%41`, or `\\"`."""
_ATTR_CHARS: Final = "!#$&+-.^_`|~"
"""Characters that RFC 8187 does not escape, beside letters and digits."""
_NAMELESS: Final = "download"


def content_disposition(kind: str, filename: str) -> str:
    """The header's value.

    Args:
        kind: "attachment" or "inline"; another token is taken as attachment by clients.
        filename: Any text. Line breaks and other control characters, slashes, and marks that change
            the direction of the text are replaced by `_`. A long name is cut before its suffix.

    Raises:
        InvalidOption: The kind is not a token.
    """
    if not _TOKEN.fullmatch(kind):
        raise InvalidOption("content_disposition_type", kind, '"attachment" or "inline"')
    name = _shortened(_HARMFUL.sub("_", filename).strip(" ")).strip(" ")
    if name.strip(".") == "":
        name = _NAMELESS  # "", "." and ".." name no file
    plain = _NOT_PLAIN.sub("_", _without_accents(name))
    value = f'{kind}; filename="{plain}"'
    if plain != name:
        value += f"; filename*=UTF-8''{quote(name, safe=_ATTR_CHARS)}"
    return value


def _without_accents(name: str) -> str:
    """The name without accents, where Unicode can take them off: é becomes e."""
    decomposed = unicodedata.normalize("NFKD", name)
    plain = "".join(char for char in decomposed if not unicodedata.combining(char))
    # Compatibility forms of harmful characters, such as the wide slash, become plain ones here.
    return _HARMFUL.sub("_", plain)


def _shortened(name: str) -> str:
    if len(name) <= MAX_FILENAME_CHARS:
        return name
    stem, dot, suffix = name.rpartition(".")
    if not stem or len(suffix) > 16:
        return name[:MAX_FILENAME_CHARS]
    return stem[: MAX_FILENAME_CHARS - len(suffix) - 1] + dot + suffix
