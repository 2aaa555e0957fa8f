"""Where the input of a connection is cut, so that one request is parsed at a time.

A parser takes all that it is given: in one piece of 64 KiB may be three thousand requests, which
would all be kept until their turn comes, and an upgrade that takes the connection from under a
response that is still being sent. So the parser gets pieces, none of which goes beyond the end of a
message; what is behind is kept as bytes until the response is complete.

A head ends with a blank line, and so does a body in chunks, behind its last chunk or its trailers.
A blank line elsewhere in a body does no harm: it makes one piece more. (The parser refuses a line
that ends with a LF alone, so there is no other way to write one.)

Source: RFC 9112 2.1, 6.3, 7.1.
"""

from __future__ import annotations

from tailrace import limits

__all__ = ["Borders"]

_BLANK_LINE = b"\r\n\r\n"


class Borders:
    """Where the next piece of the input ends."""

    __slots__ = ("_before", "_left")

    def __init__(self) -> None:
        self._left = 0
        """Bytes of a body with a length that are still to come."""
        self._before = b""
        """What may be the beginning of a blank line, from the piece before."""

    def sized(self, size: int) -> None:
        """A body of so many bytes follows."""
        self._left = size

    def end_of_piece(self, data: bytes, at: int) -> int:
        """Where the piece ends that begins at `at`, which the parser gets next.

        Args:
            data: What came.
            at: Less than its length.
        """
        if self._left:
            end = min(len(data), at + self._left)
            self._left -= end - at
            return end
        if self._before:
            joined = self._before + data[at : at + 3]
            found = joined.find(_BLANK_LINE)
            if found >= 0:
                end = at + found + 4 - len(self._before)
                self._before = b""
                return end
        most = min(len(data), at + limits.INPUT_PIECE_BYTES)
        found = data.find(_BLANK_LINE, at, most)
        if found >= 0:
            self._before = b""
            return found + 4
        self._before = (self._before + data[max(at, most - 3) : most])[-3:]
        return most
