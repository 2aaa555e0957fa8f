"""Which bytes a client asks for, and how a response names them.

Nothing that a client sent raises here. RFC 9110 lets a server ignore a Range that is not valid, and
this one does: the answer is the whole representation, never an error. In Python a range is
half-open (`start`, `stop`); on the wire it is inclusive.

Source: RFC 9110 sections 14 and 15.3.7.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tailrace.limits import COALESCE_GAP_BYTES, MAX_RANGE_HEADER_BYTES, MAX_RANGES

__all__ = ["ByteRange", "ByteRanges", "coalesce", "content_range", "parse_ranges", "unsatisfied"]

_BLANK = " \t"
_SPEC = re.compile(r"(?P<first>[0-9]+)-(?P<last>[0-9]*)|-(?P<suffix>[0-9]+)")
_MAX_DIGITS: Final = 18
"""A longer number is more bytes than any file has. Python itself refuses more than 4,300 digits."""


@dataclass(frozen=True, slots=True, order=True)
class ByteRange:
    """Bytes from `start` up to `stop`, which is not among them."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start


def parse_ranges(
    header: str | None, size: int, *, max_ranges: int = MAX_RANGES
) -> tuple[ByteRange, ...] | None:
    """The bytes that a Range header asks for.

    Ranges that overlap, touch or nearly touch become one, so the answer has no byte twice and is
    never much larger than the representation. They come in the order in which they were asked for.

    Args:
        header: Its value; several lines are joined with commas.
        size: Bytes of the representation.
        max_ranges: A header with more is ignored.

    Returns:
        One range or more (206); an empty tuple if no byte of them exists (416); None if there is no
        Range, or it is ignored: another unit, not valid, too long, too many (200).
    """
    specs = _specs(header, max_ranges)
    if specs is None:
        return None
    wanted: list[ByteRange] = []
    understood = False
    for spec in specs:
        match = _SPEC.fullmatch(spec)
        if match is None:  # the grammar's `other-range`, which the unit bytes does not have
            continue
        understood = True
        if match["suffix"] is not None:
            start, stop = max(0, size - _number(match["suffix"])), size
            if not size and _number(match["suffix"]):
                return None  # satisfiable by the RFC, but no Content-Range can express it
        else:
            start = _number(match["first"])
            stop = _number(match["last"]) + 1 if match["last"] else max(size, start + 1)
            if stop <= start:
                return None  # its last byte comes before its first: not valid
        if start < min(stop, size):
            wanted.append(ByteRange(start, min(stop, size)))
    if not understood:
        return None
    return coalesce(wanted)


def coalesce(
    ranges: Sequence[ByteRange], gap_bytes: int = COALESCE_GAP_BYTES
) -> tuple[ByteRange, ...]:
    """Join ranges that overlap or nearly touch; each has the place of the first that it contains.

    Args:
        ranges: Without empty ones.
        gap_bytes: Two ranges with no more bytes than this between them become one: these bytes
            cost less than the head of another part.
    """
    merged: list[tuple[int, ByteRange]] = []
    for place, range_ in sorted(enumerate(ranges), key=lambda entry: entry[1]):
        if merged and range_.start - merged[-1][1].stop <= gap_bytes:
            before, last = merged[-1]
            joined = ByteRange(last.start, max(last.stop, range_.stop))
            merged[-1] = (min(before, place), joined)
        else:
            merged.append((place, range_))
    return tuple(range_ for _, range_ in sorted(merged))


def content_range(range_: ByteRange, size: int) -> str:
    """The Content-Range of a part."""
    return f"bytes {range_.start}-{range_.stop - 1}/{size}"


def unsatisfied(size: int) -> str:
    """The Content-Range of a 416."""
    return f"bytes */{size}"


@dataclass(frozen=True, slots=True)
class ByteRanges:
    """The body of a 206 with several parts; its length is known before any of it is read.

    Args:
        ranges: Two or more, as `parse_ranges` gives them.
        size: Bytes of the representation.
        content_type: Its Content-Type, repeated in each part.
        boundary: 1 to 70 letters and digits that do not occur in the data; 100 random bits are
            enough.

    Source: RFC 9110 section 14.6; RFC 2046 section 5.1.1.
    """

    ranges: tuple[ByteRange, ...]
    size: int
    content_type: str
    boundary: str

    @property
    def media_type(self) -> str:
        return f"multipart/byteranges; boundary={self.boundary}"

    @property
    def closing(self) -> bytes:
        """The bytes after the last part."""
        return f"\r\n--{self.boundary}--".encode("ascii")

    @property
    def content_length(self) -> int:
        """Bytes of the whole body."""
        heads = sum(len(self.head(place)) for place in range(len(self.ranges)))
        return heads + sum(range_.size for range_ in self.ranges) + len(self.closing)

    def head(self, place: int) -> bytes:
        """The head of a part, after the line break that ends the part before it."""
        return (
            f"{'' if place == 0 else chr(13) + chr(10)}--{self.boundary}\r\n"
            f"Content-Type: {self.content_type}\r\n"
            f"Content-Range: {content_range(self.ranges[place], self.size)}\r\n\r\n"
        ).encode("latin-1")


def _specs(header: str | None, max_ranges: int) -> list[str] | None:
    if header is None or len(header) > MAX_RANGE_HEADER_BYTES:
        return None
    unit, equals, rest = header.strip(_BLANK).partition("=")
    if not equals or unit.lower() != "bytes":
        return None
    # A list may have empty members (section 5.6.1.2), but it must have others too.
    specs = [spec for spec in (part.strip(_BLANK) for part in rest.split(",")) if spec]
    return specs if 0 < len(specs) <= max_ranges else None


def _number(digits: str) -> int:
    significant = digits.lstrip("0") or "0"
    return int(significant) if len(significant) <= _MAX_DIGITS else int("9" * _MAX_DIGITS)
