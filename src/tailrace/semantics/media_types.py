"""Which media type a file has, by its name; and which charset a media type names.

The table is Python's own, plus what is missing there. The machine's `/etc/mime.types` is not read,
so that a file has the same type on every machine.
"""

from __future__ import annotations

import codecs
import mimetypes
import posixpath
import re
from collections.abc import Mapping
from functools import cached_property

from tailrace.errors import InvalidOption

__all__ = ["MediaTypes", "charset_of", "is_utf8"]

_CHARSET = re.compile(r""";\s*charset\s*=\s*(?:"([^"]*)"|([^\s;"]+))""", re.IGNORECASE)

_OTHER = "application/octet-stream"

# The IANA registry's name where it has one. Python 3.11 knows none of these, or an old name.
_MORE = {
    ".7z": "application/x-7z-compressed",
    ".br": _OTHER,
    ".bz2": "application/x-bzip2",
    ".cfg": "text/plain",
    ".conf": "text/plain",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".epub": "application/epub+zip",
    ".flac": "audio/flac",
    ".geojson": "application/geo+json",
    ".gz": "application/gzip",
    ".ics": "text/calendar",
    ".ini": "text/plain",
    ".js": "text/javascript",
    ".jsonl": "application/jsonl",
    ".jxl": "image/jxl",
    ".log": "text/plain",
    ".m4a": "audio/mp4",
    ".m4s": "video/iso.segment",
    ".map": "application/json",
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".mkv": "video/matroska",
    ".mpd": "application/dash+xml",
    ".ndjson": "application/x-ndjson",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".ogg": "audio/ogg",
    ".ogv": "video/ogg",
    ".opus": "audio/ogg",
    ".otf": "font/otf",
    ".parquet": "application/vnd.apache.parquet",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".rst": "text/plain",
    ".sql": "application/sql",
    ".tgz": "application/gzip",
    ".toml": "application/toml",
    ".ttf": "font/ttf",
    ".weba": "audio/webm",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".xz": "application/x-xz",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".z": "application/x-compress",
    ".zst": "application/zstd",
}


class MediaTypes:
    """A table of media types by suffix: of one `Files`, or the common one.

    Args:
        own: Types by lower-case suffix with its dot (".log"), which come before the table's; "" is
            for names whose suffix is not known.

    Raises:
        InvalidOption: A key is not a suffix, or a value is not a media type.
    """

    def __init__(self, own: Mapping[str, str]) -> None:
        for suffix, media_type in own.items():
            if suffix and (not suffix.startswith(".") or suffix != suffix.lower()):
                raise InvalidOption("media_types", suffix, 'lower-case suffixes with a dot, or ""')
            if "/" not in media_type or not media_type.isprintable() or not media_type.isascii():
                raise InvalidOption("media_types", media_type, 'media types: "text/plain"')
        self._own = dict(own)
        self._other = own.get("", _OTHER)

    @cached_property
    def _by_suffix(self) -> dict[str, str]:
        # Made when it is first needed, for it takes some milliseconds. `filenames=()`: reads no
        # file of the machine.
        table = mimetypes.MimeTypes(filenames=()).types_map[True]
        return {**table, **_MORE, **self._own}

    def of(self, name: str) -> str:
        """The media type of a file by its name, without a charset, which the response adds to text.

        Only the last suffix counts. `a.tar.gz` is gzip, not tar with a content coding: a client
        that decoded it would store other bytes than those of the file.
        """
        return self._by_suffix.get(posixpath.splitext(name)[1].lower(), self._other)


def charset_of(content_type: str) -> str | None:
    """The charset that a Content-Type names, as it is written there; None if there is none.

    Source: RFC 9110 8.3.1 and 8.3.2.
    """
    found = _CHARSET.search(content_type)
    return None if found is None else found[1] or found[2]


def is_utf8(charset: str) -> bool:
    """Whether a charset is UTF-8, by any of its names."""
    try:
        return codecs.lookup(charset).name == "utf-8"
    except LookupError:
        return False
