"""multipart/x-mixed-replace: each part replaces the one before (MJPEG, for example).

A browser shows a part only when it has read the boundary after it, because only then it knows that
the part has ended. Chromium (156, in an `<img>`) waits even longer, for the headers of the next
part: with the boundary alone it shows every picture one picture late. So each part is followed at
once by the boundary and the headers of the next part. Only the body of the next part comes later.
That is why these parts have no Content-Length.

The headers of the next part are a guess: `part_type` and nothing else. If the next item is a `Part`
with other headers, the part that was opened still needs a body, because an empty body crashes the
tab in the same Chromium. It gets the last body again, so the picture does not change. A `Part` with
headers of its own is followed by the boundary alone, since the next guess would be wrong as well.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tailrace.errors import InvalidChunk, InvalidOption
from tailrace.framing.base import Carries, Framing

__all__ = ["MultipartMixedReplace", "Part"]

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\x20-\x7e\t]*")
# RFC 2046 allows a few more, but they need quotes in the Content-Type, which some clients misread.
_BOUNDARY = re.compile(r"[0-9A-Za-z'+_.\-]{1,70}")

_ITEMS = "bytes, bytearray, memoryview or a Part of them"


@dataclass(frozen=True, slots=True)
class Part:
    """One part with a type or headers of its own.

    Args:
        data: The body, as bytes.
        content_type: Its media type; None is the stream's `part_type`.
        headers: More headers of the part: names to values, both printable ASCII. Content-Type and
            Content-Length are refused, because they are written for you.

    Raises:
        InvalidChunk: The data is not bytes.
        InvalidOption: A header is not one line of printable ASCII, or is one of the two above.
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
    """multipart/x-mixed-replace: each item is one part, which a browser shows in place of the last.

    Items: bytes, bytearray, memoryview, or a `Part`. Chromium shows a `Part` with a type or headers
    of its own only when the next part comes, and all others at once. An empty item writes nothing.
    If the source fails, the body is cut.

    Args:
        part_type: The media type of parts that do not set one.
        boundary: 1 to 70 letters, digits and `'+_.-` that do not occur in any part; None takes 128
            random bits, which nobody can guess.

    Raises:
        InvalidOption: `boundary` or `part_type` cannot be written.

    Source: RFC 2046 section 5.1.
    """

    name = "multipart"
    carries = Carries.CHUNKS

    def __init__(self, part_type: str = "image/jpeg", boundary: str | None = None) -> None:
        _check_value("part_type", part_type)
        if boundary is None:
            boundary = secrets.token_hex(16)
        if not isinstance(boundary, str) or not _BOUNDARY.fullmatch(boundary):
            raise InvalidOption("boundary", boundary, "1 to 70 letters, digits and '+_.-")
        self.boundary = boundary
        self._type = part_type
        self._delimiter = f"--{boundary}\r\n".encode()
        self._plain_head = f"Content-Type: {part_type}\r\n\r\n".encode()
        # What must be sent before the next body, if that is of `part_type` without other headers.
        self._owed = self._delimiter + self._plain_head
        # A part is opened when its headers are sent and its body is not. This is the body before
        # it; None: no part is opened.
        self._last: bytes | None = None

    @property
    def media_type(self) -> str:
        """The Content-Type of the response, with the boundary."""
        return f"multipart/x-mixed-replace; boundary={self.boundary}"

    def frame(self, item: Any) -> bytes:
        part = item if isinstance(item, Part) else _part_of(item)
        body = bytes(part.data)
        if not body:
            return b""
        if not part.headers and part.content_type in (None, self._type):
            return self._plain(body)
        return self._special(part, body)

    def closing(self) -> bytes:
        # After the headers of an opened part, the boundary needs a line break before it.
        start = b"" if self._last is None else b"\r\n"
        return start + f"--{self.boundary}--\r\n".encode()

    def _plain(self, body: bytes) -> bytes:
        framed = b"".join((self._owed, body, b"\r\n", self._delimiter, self._plain_head))
        self._owed, self._last = b"", body
        return framed

    def _special(self, part: Part, body: bytes) -> bytes:
        if self._last is not None:
            start = b"".join((self._last, b"\r\n", self._delimiter))
        else:
            start = self._owed.removesuffix(self._plain_head)
        lines = [f"Content-Type: {part.content_type or self._type}"]
        lines += [f"{name}: {value}" for name, value in part.headers.items()]
        lines += [f"Content-Length: {len(body)}", "", ""]
        head = "\r\n".join(lines).encode("ascii")
        self._owed, self._last = self._plain_head, None
        return b"".join((start, head, body, b"\r\n", self._delimiter))


def _part_of(item: Any) -> Part:
    if not isinstance(item, (bytes, bytearray, memoryview)):
        raise InvalidChunk(item, MultipartMixedReplace.name, _ITEMS)
    return Part(item)


def _check_value(name: str, value: Any) -> None:
    if not isinstance(value, str) or not _VALUE.fullmatch(value):
        raise InvalidOption(name, value, "printable ASCII on one line, without CR and LF")
