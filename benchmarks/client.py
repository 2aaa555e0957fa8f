"""The client that measures: blocking sockets that read into memory made before the clock starts.

It parses nothing while the clock runs. Requests have `Connection: close`, so the response ends with
the connection. What arrived is parsed afterwards.
"""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.chunked import Dechunker

__all__ = [
    "Body",
    "Client",
    "Transfer",
    "body_of",
    "connect",
    "digest_of",
    "discard",
    "order",
    "receive",
    "request_bytes",
]

TIMEOUT: Final = 600.0
"""Seconds without a byte after which a row fails, so that it does not hang for ever."""

_RECYCLED_BYTES: Final = 1024 * 1024
_REMOTE_BUFFER_BYTES: Final = 4096
_ETHERNET_SEGMENT_BYTES: Final = 1460


@dataclass(frozen=True, slots=True)
class Transfer:
    """One response: the seconds that it took, and its bytes on the wire, with head and framing."""

    seconds: float
    wire: memoryview


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a response: its length in bytes and its digest."""

    length: int
    sha256: str


class Client:
    """Transfers one response at a time into one buffer.

    Args:
        capacity_bytes: The longest response with its headers and chunk framing.
    """

    def __init__(self, capacity_bytes: int) -> None:
        # Multiplying writes every page now; with bytearray(n) the page faults would be measured.
        self._buffer = memoryview(bytearray(b"\x01") * capacity_bytes)

    def transfer(self, port: int, path: str) -> Transfer:
        """Read one response to its end. The clock starts after the connect.

        Returns:
            The response; the next call overwrites its bytes.

        Raises:
            RuntimeError: It does not fit into the buffer.
        """
        view, filled = self._buffer, 0
        with connect(port) as sock:
            request = request_bytes(path, close=True)
            started = time.perf_counter()
            sock.sendall(request)
            while received := sock.recv_into(view[filled:]):
                filled += received
                if filled == len(view):
                    raise RuntimeError(f"{path} sent more than the {filled} bytes expected")
            seconds = time.perf_counter() - started
        return Transfer(seconds, view[:filled])


def discard(port: int, path: str, sink: Dechunker | None = None) -> float:
    """Read a response that is too long to keep to its end, through one small buffer.

    Args:
        port: The server's.
        path: Of the request.
        sink: Gets all that arrives; with None only the last bytes are checked.

    Returns:
        The seconds that it took.

    Raises:
        RuntimeError: The response was cut.
    """
    buffer = memoryview(bytearray(b"\x01") * _RECYCLED_BYTES)
    last = b""
    with connect(port) as sock:
        started = time.perf_counter()
        sock.sendall(request_bytes(path, close=True))
        while received := sock.recv_into(buffer):
            last = (last + bytes(buffer[max(0, received - 5) : received]))[-5:]
            if sink is not None:
                sink.feed(buffer[:received])
        seconds = time.perf_counter() - started
    if last != b"0\r\n\r\n":
        raise RuntimeError(f"{path} was cut: it ends in {last!r}")
    return seconds


def connect(
    port: int, *, remote: bool = False, buffer_bytes: int = _REMOTE_BUFFER_BYTES
) -> socket.socket:
    """A connection to the server.

    Args:
        port: The server's.
        remote: Act like a client on an Ethernet with a small receive buffer. For a client on
            loopback (segments of 64 KB) that stops reading, the kernel keeps over 3 MB. A few
            hundred of them put the machine's whole TCP under memory pressure. Then segments of
            other transfers are lost, and each of these waits 200 ms, whatever the server does.
        buffer_bytes: The receive buffer of a remote client.
    """
    sock = socket.socket()
    sock.settimeout(TIMEOUT)
    if remote:
        # Before the connect, because the handshake announces both.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _ETHERNET_SEGMENT_BYTES)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.connect(("127.0.0.1", port))
    return sock


def order(port: int, method: str, path: str, body: bytes = b"") -> None:
    """Send one request, and check only the status of its answer.

    Raises:
        RuntimeError: The status is not 2xx.
    """
    with connect(port) as sock:
        sock.sendall(request_bytes(path, method=method, body=body))
        answer = sock.recv(_RECYCLED_BYTES)
    if not answer.startswith(b"HTTP/1.1 2"):
        raise RuntimeError(f"{method} {path} failed: {answer!r}")


def request_bytes(
    path: str,
    *,
    method: str = "GET",
    close: bool = False,
    headers: Sequence[str] = (),
    body: bytes = b"",
) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", *headers]
    if close:
        lines.append("connection: close")
    if method == "POST":
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


def body_of(transfer: Transfer) -> bytes:
    """The body of a transfer without its chunk framing.

    Raises:
        RuntimeError: The response is not a 200, is not chunked, or was cut.
    """
    kept = bytearray()
    parser = Dechunker(kept.extend)
    parser.feed(transfer.wire)
    parser.finish()
    return bytes(kept)


def digest_of(transfer: Transfer) -> Body:
    """The length and digest of a transfer's body, without a copy of it. Raises as `body_of`."""
    digest = hashlib.sha256()
    parser = Dechunker(digest.update)
    parser.feed(transfer.wire)
    parser.finish()
    return Body(parser.body_bytes, digest.hexdigest())


def receive(sock: socket.socket, view: memoryview) -> int:
    """Read into memory on a connection that is kept; gives how many bytes came.

    Raises:
        RuntimeError: The server closed the connection.
    """
    received = sock.recv_into(view)
    if not received:
        raise RuntimeError("the server closed a connection that was to be kept alive")
    return received
