"""A client that needs almost no CPU: the kernel throws away what it receives.

`MSG_TRUNC` on a TCP socket removes bytes from the queue without a copy. Client and server share the
machine, so this is how the server is measured and not the client. `python -m benchmarks.sink PORT
PATH` does one transfer in a process of its own, and prints its length in bytes and its seconds.

Source: tcp(7), MSG_TRUNC.
"""

from __future__ import annotations

import hashlib
import re
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from benchmarks.client import Body, connect, request_bytes

__all__ = ["Taken", "digest", "take"]

_AT_ONCE: Final = 4 * 1024 * 1024
_HEAD_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Taken:
    """One response whose body was not read: its seconds, and the length of its body in bytes."""

    seconds: float
    length: int


def take(port: int, path: str, *, copies: bool = False) -> Taken:
    """Receive a response that has a Content-Length, and drop its body.

    Args:
        port: The server's.
        path: Of the request.
        copies: Let the kernel copy the body into this process, as for a client that uses it.

    Raises:
        RuntimeError: The response is not a 200 with a Content-Length, or was cut.
    """
    buffer = memoryview(bytearray(b"\x01") * _AT_ONCE)
    flags = 0 if copies else socket.MSG_TRUNC

    def drop(sock: socket.socket, left: int) -> int:
        return sock.recv_into(buffer, min(left, _AT_ONCE), flags)

    return _transfer(port, path, drop, lambda _: None)


def digest(port: int, path: str) -> Body:
    """Receive a response and hash its body, to check a server before it is measured. Raises as
    `take`.
    """
    sha256 = hashlib.sha256()
    buffer = memoryview(bytearray(_AT_ONCE))

    def hashed(sock: socket.socket, left: int) -> int:
        got = sock.recv_into(buffer, min(left, _AT_ONCE))
        sha256.update(buffer[:got])
        return got

    taken = _transfer(port, path, hashed, sha256.update)
    return Body(taken.length, sha256.hexdigest())


def _transfer(
    port: int,
    path: str,
    read: Callable[[socket.socket, int], int],
    first: Callable[[bytes], object],
) -> Taken:
    """Receive the head, give `first` what came with it, and `read` the rest of the body."""
    with connect(port) as sock:
        # Without a timeout, because with one Python calls poll() before each read.
        sock.settimeout(None)
        started = time.perf_counter()
        sock.sendall(request_bytes(path, close=True))
        head, body = b"", b""
        while b"\r\n\r\n" not in head:
            piece = sock.recv(_HEAD_BYTES)
            if not piece:
                raise RuntimeError(f"{path} was cut in its head")
            head += piece
        head, _, body = head.partition(b"\r\n\r\n")
        length = _length(head)
        first(body)
        left = length - len(body)
        while left:
            got = read(sock, left)
            if not got:
                raise RuntimeError(f"{path} was cut: {left} of {length} bytes are missing")
            left -= got
        return Taken(time.perf_counter() - started, length)


def _length(head: bytes) -> int:
    found = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    if b" 200 " not in head[:16] or found is None:
        raise RuntimeError(f"not a 200 with a content-length: {head.decode('latin-1')}")
    return int(found[1])


def main() -> None:
    taken = take(int(sys.argv[1]), sys.argv[2])
    print(taken.length, taken.seconds)


if __name__ == "__main__":
    main()
