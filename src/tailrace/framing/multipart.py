"""multipart/x-mixed-replace: each part takes the place of the one before (MJPEG and friends).

A browser shows a part only when it reads the boundary that ends it. So that boundary is written
right behind the part, not in front of the next one, which may come a second later. It is a whole
line: Chromium takes a CRLF that arrives on its own behind a boundary for an empty header block.
The price is that the closing boundary follows an ordinary one: to a strict reader a last part that
is empty, which Chromium, waiting for its headers, never shows.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tailrace.errors import InvalidChunk, InvalidOption
from tailrace.framing.base import Framing

__all__ = ["MultipartMixedReplace", "Part"]

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\x20-\x7e\t]*")
# RFC 2046 allows a few more; these need no quotes in the Content-Type, where some clients fail.
_BOUNDARY = re.compile(r"[0-9A-Za-z'+_.\-]{1,70}")

_ITEMS = "bytes, bytearray, memoryview or a Part of them"


@dataclass(frozen=True, slots=True)
class Part:
    """One part with a type or headers of its own.

    Args:
        data: The body, as bytes.
        content_type: Its media type; None is the stream's `part_type`.
        headers: More headers of the part, by name; printable ASCII.

    Raises:
        InvalidChunk: The data is not bytes.
        InvalidOption: A header that would break out of its line.
    """

    data: bytes | bytearray | memoryview
    content_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.data, (bytes, bytearray, memoryview)):
            raise InvalidChunk(self.data, MultipartMixedReplace.name, _ITEMS)
        if self.content_type is not None:
            _check_value("content_type", self.content_type)
        for name, value in self.headers.items():
            if not isinstance(name, str) or not _TOKEN.fullmatch(name):
                raise InvalidOption("headers", name, "header names that are tokens (RFC 9110)")
            if name.lower() in {"content-type", "content-length"}:
                raise InvalidOption("headers", name, "other headers: this one is written for you")
            _check_value("headers", value)


class MultipartMixedReplace(Framing):
    """Each item one part, shown by a browser in place of the last.

    Items: bytes, bytearray, memoryview, or a `Part`. A source that failed is cut: what came last
    stays on the screen, and there is no closing boundary.

    Args:
        part_type: The media type of parts that name none.
        boundary: 1 to 70 letters, digits and `'+_.-` that no part may hold; None draws 128 random
            bits, which no part holds by chance or by an attacker's design.

    Raises:
        InvalidOption: A boundary or type that cannot be written.

    Source: RFC 2046 section 5.1.
    """

    name = "multipart"

    def __init__(self, part_type: str = "image/jpeg", boundary: str | None = None) -> None:
        _check_value("part_type", part_type)
        if boundary is None:
            boundary = secrets.token_hex(16)
        if not isinstance(boundary, str) or not _BOUNDARY.fullmatch(boundary):
            raise InvalidOption("boundary", boundary, "1 to 70 letters, digits and '+_.-")
        self.boundary = boundary
        self._type = part_type
        self._opening = f"--{boundary}\r\n".encode()
        self._after = b"\r\n" + self._opening
        self._opened = False

    @property
    def media_type(self) -> str:
        """The Content-Type of the whole stream, with its boundary."""
        return f"multipart/x-mixed-replace; boundary={self.boundary}"

    def frame(self, item: Any) -> bytes:
        part = item if isinstance(item, Part) else _part_of(item)
        body = bytes(part.data)
        lines = [f"Content-Type: {part.content_type or self._type}"]
        lines += [f"{name}: {value}" for name, value in part.headers.items()]
        # The length lets a client that counts find the end without a search.
        lines += [f"Content-Length: {len(body)}", "", ""]
        head = "\r\n".join(lines).encode("ascii")
        opening = b"" if self._opened else self._opening
        self._opened = True
        return b"".join((opening, head, body, self._after))

    def closing(self) -> bytes:
        return f"--{self.boundary}--\r\n".encode()


def _part_of(item: Any) -> Part:
    if not isinstance(item, (bytes, bytearray, memoryview)):
        raise InvalidChunk(item, MultipartMixedReplace.name, _ITEMS)
    return Part(item)


def _check_value(name: str, value: Any) -> None:
    if not isinstance(value, str) or not _VALUE.fullmatch(value):
        raise InvalidOption(name, value, "printable ASCII on one line, without CR and LF")
