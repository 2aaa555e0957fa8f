"""A client that reads a stream to its tail, answer by answer, by `Stream-Next-Offset`."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from benchmarks.client import connect, request_bytes

__all__ = ["Follower"]

_HEAD_END: Final = b"\r\n\r\n"
_LINE_END: Final = b"\r\n"


class Follower:
    """One connection that is kept open, with a buffer for one answer at a time.

    Args:
        port: The server's.
        capacity_bytes: The size of the longest answer, with its head and chunk framing.
    """

    def __init__(self, port: int, capacity_bytes: int) -> None:
        # Multiplying writes every page now; with bytearray(n) the page faults would be measured.
        self._buffer = memoryview(bytearray(b"\x01") * capacity_bytes)
        self._filled = self._at = 0
        self._socket = connect(port)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def time(self, path: str) -> float:
        """Read a stream from its beginning to its tail. Returns the seconds that it took."""
        started = time.perf_counter()
        self._follow(path, None)
        return time.perf_counter() - started

    def read(self, path: str) -> bytes:
        """All bytes of a stream."""
        held = bytearray()
        self._follow(path, held.extend)
        return bytes(held)

    def _follow(self, path: str, sink: Callable[[memoryview], object] | None) -> None:
        offset = "-1"
        while True:
            self._socket.sendall(request_bytes(f"{path}?offset={offset}"))
            head = self._head()
            for piece in self._body(head):
                if sink is not None:
                    sink(piece)
            if head.get("stream-up-to-date") == "true":
                return
            offset = head["stream-next-offset"]

    def _head(self) -> dict[str, str]:
        self._filled = 0
        while (end := bytes(self._buffer[: self._filled]).find(_HEAD_END)) < 0:
            self._receive()
        status, *lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        if not status.startswith("HTTP/1.1 200 "):
            raise RuntimeError(f"a read was answered {status!r}")
        self._at = end + len(_HEAD_END)
        fields = (line.split(":", 1) for line in lines)
        return {name.strip().lower(): value.strip() for name, value in fields}

    def _body(self, head: dict[str, str]) -> list[memoryview]:
        if "content-length" in head:
            return [self._take(int(head["content-length"]))]
        pieces = []
        while size := int(bytes(self._line()), 16):
            pieces.append(self._take(size))
            self._take(len(_LINE_END))
        self._take(len(_LINE_END))
        return pieces

    def _line(self) -> memoryview:
        while (end := bytes(self._buffer[self._at : self._filled][:64]).find(_LINE_END)) < 0:
            self._receive()
        line = self._take(end)
        self._take(len(_LINE_END))
        return line

    def _take(self, size: int) -> memoryview:
        while self._filled < self._at + size:
            self._receive()
        taken = self._buffer[self._at : self._at + size]
        self._at += size
        return taken

    def _receive(self) -> None:
        got = self._socket.recv_into(self._buffer[self._filled :])
        if not got:
            raise RuntimeError("the server ended the connection within an answer")
        self._filled += got
