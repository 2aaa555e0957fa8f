"""Many clients that append at the same time; each sends its next append after the last answer."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.client import TIMEOUT, connect, request_bytes

__all__ = ["Writer", "create", "delete", "write_all"]

_READ_BYTES: Final = 16 * 1024
_END: Final = b"\r\n\r\n"
_APPENDED: Final = b"HTTP/1.1 204 "
_TYPE: Final = "content-type: application/octet-stream"


@dataclass(frozen=True, slots=True)
class Writer:
    """What one client appends.

    Args:
        path: The stream's.
        bodies: The bodies of its appends, in this order.
    """

    path: str
    bodies: Sequence[bytes]


def create(port: int, path: str) -> None:
    """Create a stream of bytes."""
    _ask(port, request_bytes(path, method="PUT", close=True, headers=[_TYPE]), 201)


def delete(port: int, path: str) -> None:
    _ask(port, request_bytes(path, method="DELETE", close=True), 204)


def write_all(port: int, writers: Sequence[Writer]) -> float:
    """Let all writers append, each on a connection of its own, until each is done.

    Returns:
        The seconds from the first request to the last answer.

    Raises:
        RuntimeError: An append was not answered 204, or a connection ended.
    """
    # Made before the clock starts, so that the client's own work is hardly measured.
    requests = [
        [_append(writer.path, body) for body in reversed(writer.bodies)] for writer in writers
    ]
    sockets = [connect(port) for _ in writers]
    poll = select.epoll()
    try:
        left = {
            sock.fileno(): (sock, waiting) for sock, waiting in zip(sockets, requests, strict=True)
        }
        for descriptor in left:
            poll.register(descriptor, select.EPOLLIN)
        started = time.perf_counter()
        for sock, waiting in left.values():
            sock.sendall(waiting.pop())
        while left:
            ready = poll.poll(TIMEOUT)
            if not ready:
                raise RuntimeError(f"{len(left)} writers got no answer in {TIMEOUT:g} s")
            for descriptor, _ in ready:
                sock, waiting = left[descriptor]
                _take_answer(sock)
                if waiting:
                    sock.sendall(waiting.pop())
                else:
                    del left[descriptor]
                    poll.unregister(descriptor)
        return time.perf_counter() - started
    finally:
        poll.close()
        for sock in sockets:
            sock.close()


def _take_answer(sock: socket.socket) -> None:
    answer = sock.recv(_READ_BYTES)
    # A 204 has only a head. In practice it comes in one piece.
    while not answer.endswith(_END):
        piece = sock.recv(_READ_BYTES)
        if not piece:
            raise RuntimeError(f"the server ended a writer's connection: {answer!r}")
        answer += piece
    if not answer.startswith(_APPENDED):
        raise RuntimeError(f"an append failed: {answer!r}")


def _append(path: str, body: bytes) -> bytes:
    return request_bytes(path, method="POST", headers=[_TYPE], body=body)


def _ask(port: int, request: bytes, status: int) -> None:
    with connect(port) as sock:
        sock.sendall(request)
        answer = bytearray()
        while piece := sock.recv(_READ_BYTES):
            answer += piece
    if not answer.startswith(b"HTTP/1.1 %d " % status):
        raise RuntimeError(f"{bytes(request[:80])!r} was answered {bytes(answer)!r}")
