"""Decodes a chunked response, piece by piece, after the clock was stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

__all__ = ["Dechunker"]

_LONGEST_LINE: Final = 64
"""Bytes in which the line with a chunk's size must end; uvicorn writes a few hexadecimal digits."""


class Dechunker:
    """Gives the body of one response to `sink`, however the bytes were split on the way.

    Args:
        sink: Called with each piece of the body; the piece is valid only during the call.
    """

    def __init__(self, sink: Callable[[memoryview], object]) -> None:
        self.body_bytes = 0
        self.chunks = 0
        self.complete = False
        self._sink = sink
        self._held = b""  # the beginning of a line or a head that has not ended
        self._in_head = True
        self._body_left = 0
        self._skip = 0  # bytes of the CRLF that ends a chunk

    def feed(self, data: memoryview) -> None:
        """Take the next bytes of the response.

        Raises:
            RuntimeError: The response is not a chunked 200, or bytes follow its end.
        """
        if self._held:
            data = memoryview(self._held + bytes(data))
            self._held = b""
        at = 0
        if self._in_head:
            at = self._head(data)
        while at < len(data):
            if self._body_left:
                at = self._body(data, at)
            elif self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
                at += step
            else:
                at = self._size(data, at)

    def finish(self) -> None:
        """Say that no bytes follow.

        Raises:
            RuntimeError: The response was cut before its last chunk.
        """
        if not self.complete or self._skip:
            raise RuntimeError(f"the response was cut after {self.body_bytes} bytes of its body")

    def _head(self, data: memoryview) -> int:
        head = bytes(data[:8192])
        end = head.find(b"\r\n\r\n")
        if end < 0:
            self._held = bytes(data)
            return len(data)
        if b" 200 " not in head[:16] or b"transfer-encoding: chunked" not in head[:end].lower():
            raise RuntimeError(f"not a chunked 200: {head[:end].decode('latin-1')}")
        self._in_head = False
        return end + 4

    def _body(self, data: memoryview, at: int) -> int:
        step = min(self._body_left, len(data) - at)
        self._sink(data[at : at + step])
        self.body_bytes += step
        self._body_left -= step
        return at + step

    def _size(self, data: memoryview, at: int) -> int:
        if self.complete:
            raise RuntimeError("bytes after the last chunk")
        line = bytes(data[at : at + _LONGEST_LINE])
        end = line.find(b"\r\n")
        if end < 0:
            self._held = line
            return at + len(line)
        size = int(line[:end], 16)
        self._body_left, self._skip = size, 2
        self.complete = size == 0
        self.chunks += size > 0
        return at + end + 2
