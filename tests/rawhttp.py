"""A small HTTP/1.1 client on a plain socket, for tests of what other clients hide.

It tells whether a body was complete or cut, reads only when it is told to, and can half-close or
reset the connection. It supports only what tests need of HTTP: no continuation lines, no trailers.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal

__all__ = ["Connection", "Head", "Reply", "ReplyError", "request"]

READ_BYTES = 64 * 1024


class ReplyError(Exception):
    """The bytes that came are not an HTTP/1 response, or end within its head."""


@dataclass(frozen=True, slots=True)
class Head:
    """A status line and its header fields. Names are in lower case; values of the same name are
    joined by ", ".
    """

    version: str
    status: int
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole response.

    Attributes:
        complete: Whether the body came to its end: the last chunk came, or as many bytes as
            Content-Length says. If the body has neither, it lasts until the connection closes; it
            is complete if the connection was closed and not reset.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    complete: bool


@dataclass(slots=True)
class Connection:
    """One connection; as a context manager, it is closed at the end.

    Args:
        host: The address.
        port: The port.
        timeout: Seconds that a single read or write may wait.
        receive_buffer: Bytes of the socket's receive buffer; small for a client that soon stalls.
            None is the system's default.

    Attributes:
        ended: How the peer ended its side; None until a read has come to the end.
    """

    host: str
    port: int
    timeout: float = 10.0
    receive_buffer: int | None = None
    sock: socket.socket = field(init=False)
    ended: Literal["closed", "reset"] | None = field(init=False, default=None)
    _buffer: bytearray = field(init=False, default_factory=bytearray)
    _methods: list[str] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.sock = socket.socket()
        self.sock.settimeout(self.timeout)
        if self.receive_buffer is not None:
            # Before connect, because the window that the handshake offers depends on it.
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        try:
            self.sock.connect((self.host, self.port))
        except BaseException:
            self.sock.close()
            raise

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # Sending ------------------------------------------------------------------------------------

    def send(
        self,
        path: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        version: Literal["1.0", "1.1"] = "1.1",
    ) -> None:
        """Send a request. Several in a row are a pipeline; their replies are read in order."""
        fields = {"host": f"{self.host}:{self.port}", **(headers or {})}
        if body:
            fields["content-length"] = str(len(body))
        lines = [f"{method} {path} HTTP/{version}", *(f"{k}: {v}" for k, v in fields.items())]
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        self._methods.append(method)

    def half_close(self) -> None:
        """End our side, so that nothing more can be sent. Replies can still be read."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Drop the connection with an RST, as when the client's program dies."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    # Reading ------------------------------------------------------------------------------------

    def read_head(self) -> Head:
        """The next head; heads of informational responses (1xx) are skipped.

        Raises:
            ReplyError: The connection ended before or within the head, or it is not HTTP/1.
        """
        while True:
            raw = self._take_through(b"\r\n\r\n")
            if raw is None:
                raise ReplyError(f"the connection was {self.ended} after {bytes(self._buffer)!r}")
            head = parse_head(raw)
            if head.status >= 200:
                return head

    def read_some(self) -> bytes:
        """The next bytes as they come, still with the body's framing; b"" at the end."""
        if not self._buffer:
            self._fill()
        return self._take(len(self._buffer))

    def read_chunk(self) -> bytes | None:
        """The next chunk of a chunked body: b"" for the last one, None if the body was cut.

        The part that came of a chunk that was cut is given by `read_some`.

        Raises:
            ReplyError: The chunk does not end with a line break.
        """
        line = self._take_through(b"\r\n")
        if line is None:
            self._buffer.clear()  # a part of the line with the size is not data
            return None
        size = int(line.split(b";")[0], 16)
        data = self._take_exactly(size + 2)
        if data is None:
            del self._buffer[size:]
            return None
        if data[size:] != b"\r\n":
            raise ReplyError(f"a chunk of {size} bytes is followed by {data[size:]!r}")
        return data[:size]

    def read_reply(self) -> Reply:
        """Read the next response to its end, also if it is cut. Raises as `read_head`."""
        head = self.read_head()
        method = self._methods.pop(0) if self._methods else "GET"
        body, complete = self._read_body(head, method)
        return Reply(head.status, head.headers, body, complete)

    def _read_body(self, head: Head, method: str) -> tuple[bytes, bool]:
        if method == "HEAD" or head.status in (204, 304):
            return b"", True
        if head.headers.get("transfer-encoding", "").lower() == "chunked":
            return self._read_chunks()
        if "content-length" in head.headers:
            wanted = int(head.headers["content-length"])
            data = self._take_exactly(wanted)
            return (data, True) if data is not None else (self._take(wanted), False)
        return self._read_until_end()

    def _read_chunks(self) -> tuple[bytes, bool]:
        body = bytearray()
        while chunk := self.read_chunk():
            body += chunk
        if chunk is None:
            # A part of the chunk may have come, and clients that show data at once have shown it.
            body += self._take(len(self._buffer))
        return bytes(body), chunk is not None

    def _read_until_end(self) -> tuple[bytes, bool]:
        while self._fill():
            pass
        return self._take(len(self._buffer)), self.ended == "closed"

    def _take_through(self, mark: bytes) -> bytes | None:
        while (at := self._buffer.find(mark)) < 0:
            if not self._fill():
                return None
        return self._take(at + len(mark))

    def _take_exactly(self, count: int) -> bytes | None:
        while len(self._buffer) < count:
            if not self._fill():
                return None
        return self._take(count)

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _fill(self) -> bool:
        if self.ended is not None:
            return False
        try:
            data = self.sock.recv(READ_BYTES)
        except (ConnectionResetError, BrokenPipeError):
            self.ended = "reset"
            return False
        if not data:
            self.ended = "closed"
        self._buffer += data
        return bool(data)


def request(
    host: str,
    port: int,
    path: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    version: Literal["1.0", "1.1"] = "1.1",
) -> Reply:
    """Send one request on a connection of its own, and read the response."""
    with Connection(host, port) as connection:
        connection.send(path, method=method, headers=headers, body=body, version=version)
        return connection.read_reply()


def parse_head(raw: bytes) -> Head:
    first, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    version, _, rest = first.partition(" ")
    if version not in ("HTTP/1.0", "HTTP/1.1") or not rest[:3].isdigit():
        raise ReplyError(f"not a status line: {first!r}")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Head(version.removeprefix("HTTP/"), int(rest[:3]), headers)
