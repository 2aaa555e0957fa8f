"""The name of the file that a download is saved under. Pure, and distrustful of the server."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from tailrace import limits

__all__ = ["name_from_header", "name_from_url", "safe_name"]

FALLBACK = "download"

_PARAMETER = re.compile(
    r""";\s*(?P<name>[!#$%&'*+\-.^_`|~0-9A-Za-z]+)\s*=\s*
        (?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<token>[^\s;"]*))\s*""",
    re.VERBOSE | re.DOTALL,
)
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_CHARSETS = {"utf-8": "utf-8", "iso-8859-1": "latin-1"}
"""What RFC 8187 asks every recipient to know, and all that is in use."""


def name_from_header(disposition: str | None) -> str | None:
    """The file name in a Content-Disposition header, made safe; None if it has none.

    `filename*` wins over `filename`. Nothing is decoded that the header does not say is encoded.

    Source: RFC 6266 section 4.3, RFC 8187 section 3.2.
    """
    found: dict[str, str] = {}
    kind, _, rest = (disposition or "").partition(";")
    at = 0
    text = ";" + rest
    # A header without a type (`filename=x`) is wrong, and common.
    if "=" in kind:
        text = f";{kind};{rest}"
    while match := _PARAMETER.match(text, at):
        at = match.end()
        value = match["token"]
        if match["quoted"] is not None:
            value = _QUOTED_PAIR.sub(r"\1", match["quoted"])
        found.setdefault(match["name"].lower(), value)
    extended = _decode(found["filename*"]) if "filename*" in found else None
    return safe_name(extended) or safe_name(found.get("filename"))


def name_from_url(url: str) -> str:
    """The last part of the URL's path, made safe; "download" where it has none."""
    return safe_name(unquote(urlsplit(url).path.rpartition("/")[2], errors="replace")) or FALLBACK


def safe_name(name: str | None) -> str | None:
    """A name for a file in the directory that the user chose, or None if nothing is left of it.

    Only what follows the last slash or backslash counts. What cannot be printed goes, so that no
    name can drive a terminal or turn its own text around; a leading dot becomes an underscore, so
    that no server can write a `.bashrc`. The end is cut where it is too long, before the suffix.
    """
    last = re.split(r"[/\\]", name or "")[-1]
    clean = "".join(c for c in last if c.isprintable()).strip()
    if not clean.strip("."):
        return None
    if clean.startswith("."):
        clean = "_" + clean[1:]
    return _shortened(clean)


def _shortened(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    tail = f".{suffix}" if dot and stem and len(suffix) <= 16 else ""
    room = limits.MAX_FILE_NAME_BYTES - len(tail.encode(errors="replace"))
    head = name.removesuffix(tail).encode(errors="replace")[:room]
    return head.decode(errors="ignore") + tail


def _decode(value: str) -> str | None:
    charset, quote, rest = value.partition("'")
    _, second, encoded = rest.partition("'")
    codec = _CHARSETS.get(charset.lower())
    if not quote or not second or codec is None:
        return None
    try:
        return unquote(encoded, encoding=codec, errors="strict")
    except UnicodeDecodeError:
        return None
