"""Many clients that hold a stream open and read what is published."""

from __future__ import annotations

import selectors
import socket
import time
from types import TracebackType
from typing import Final, Self

from benchmarks.client import TIMEOUT, connect, request_bytes

__all__ = ["Subscribers"]

_EVENT: Final = b"data:"
_READ_BYTES: Final = 64 * 1024


class Subscribers:
    """Connections that each asked for `path` and got the response's head.

    Args:
        port: The server's.
        path: The endpoint of the stream.
        count: How many.
        first_event: Wait for an event on each, for streams that begin with one.
        keep: Keep what each receives, in `received`, to be looked at afterwards.
    """

    def __init__(
        self, port: int, path: str, count: int, *, first_event: bool = False, keep: bool = False
    ) -> None:
        self._port = port
        self._path = path
        self._count = count
        self._wanted = _EVENT if first_event else b"\r\n\r\n"
        self._sockets: list[socket.socket] = []
        self._publisher: socket.socket | None = None
        self._selector = selectors.DefaultSelector()
        self._keep = keep
        self.received: dict[socket.socket, list[bytes]] = {}

    def __enter__(self) -> Self:
        # Without this header Nchan has nothing for a subscriber; EventSource sends it.
        request = request_bytes(self._path, headers=["accept: text/event-stream"])
        for _ in range(self._count):
            sock = connect(self._port)
            self._sockets.append(sock)
            self.received[sock] = []
            sock.sendall(request)
            self._selector.register(sock, selectors.EVENT_READ)
        self._publisher = connect(self._port)
        self._await(self._wanted)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._selector.close()
        for sock in self._sockets:
            sock.close()
        if self._publisher is not None:
            self._publisher.close()

    def publish(self, path: str, body: bytes = b"") -> float:
        """POST to `path`, and wait until every subscriber has one more event.

        Returns:
            The seconds until the last one had it.
        """
        assert self._publisher is not None
        started = time.perf_counter()
        self._publisher.sendall(request_bytes(path, method="POST", body=body))
        self._await(_EVENT)
        seconds = time.perf_counter() - started
        answer = self._publisher.recv(_READ_BYTES)
        if not answer.startswith(b"HTTP/1.1 2"):
            raise RuntimeError(f"publishing failed: {answer!r}")
        return seconds

    def _await(self, wanted: bytes) -> None:
        """Read until each subscriber has got `wanted` once."""
        # What came before the piece at hand, for a mark that is split between two reads.
        missing = dict.fromkeys(self._sockets, b"")
        deadline = time.monotonic() + TIMEOUT
        while missing:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(missing)} subscribers got nothing in {TIMEOUT:g} s")
            for key, _ in self._selector.select(1.0):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                piece = sock.recv(_READ_BYTES)
                if not piece:
                    raise RuntimeError("the server ended a subscriber's stream")
                if self._keep:
                    self.received[sock].append(piece)
                if sock in missing:
                    missing[sock] += piece
                    if wanted in missing[sock]:
                        del missing[sock]
