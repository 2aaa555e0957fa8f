"""Many clients that keep a stream open and read what is published."""

from __future__ import annotations

import os
import selectors
import socket
import time
from types import TracebackType
from typing import Final, Self

from benchmarks.client import TIMEOUT, connect, request_bytes

__all__ = ["Subscribers"]

_EVENT: Final = b"data:"
_READ_BYTES: Final = 64 * 1024
_QUIET: Final = 0.1
"""Seconds of silence after which no other subscriber is expected to get an event."""


class Subscribers:
    """Connections that have each requested `path` and received the head of the response.

    Args:
        port: The server's.
        path: The path of the stream. `{}` in it becomes the number of the subscriber, from 0.
        count: The number of subscribers.
        first_event: Wait until each has an event, not only the head.
        keep: Keep what each receives in `received`, for a check afterwards.
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
        self.delays: list[float] = []
        """Seconds from each `publish` until each subscriber had its event, in no order."""
        self.received: dict[socket.socket, list[bytes]] = {}

    def __enter__(self) -> Self:
        # Nchan sends events only to requests with this `accept`; EventSource sends it, too.
        for number in range(self._count):
            path = self._path.replace("{}", str(number))
            request = request_bytes(path, headers=["accept: text/event-stream"])
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
        self._await(_EVENT, started)
        seconds = time.perf_counter() - started
        answer = self._publisher.recv(_READ_BYTES)
        if not answer.startswith(b"HTTP/1.1 2"):
            raise RuntimeError(f"publishing failed: {answer!r}")
        return seconds

    def append(self, path: str, body: bytes) -> int:
        """POST to `path`, and wait until no subscriber gets an event any more.

        Returns:
            How many subscribers got an event.
        """
        self.append_unheard(path, body)
        told: set[int] = set()
        while ready := self._selector.select(_QUIET if told else TIMEOUT):
            for key, _ in ready:
                if _EVENT in os.read(key.fd, _READ_BYTES):  # and not a heartbeat
                    told.add(key.fd)
        return len(told)

    def append_unheard(self, path: str, body: bytes) -> None:
        """POST to `path`, and do not read what the subscribers get."""
        assert self._publisher is not None
        self._publisher.sendall(request_bytes(path, method="POST", body=body))
        if not self._publisher.recv(_READ_BYTES).startswith(b"HTTP/1.1 2"):
            raise RuntimeError("publishing failed")

    def _await(self, wanted: bytes, started: float | None = None) -> None:
        """Read until each subscriber has got `wanted` once."""
        # What each has received so far, because `wanted` may be split between two reads.
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
                        if started is not None:
                            self.delays.append(time.perf_counter() - started)
