"""As `tests.rawhttp`, for HTTP/2 without TLS: one request on a connection of its own.

There is no upgrade from HTTP/1.1: the client knows that the server speaks HTTP/2. A body that was
cut ends with RST_STREAM, or with the connection.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from types import TracebackType

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from tests.rawhttp import Reply

__all__ = ["Connection"]

READ_BYTES = 64 * 1024


class Connection:
    """One connection with one stream; as a context manager, it is closed at the end.

    Args:
        host, port: The address.
        timeout: Seconds that a single read or write may wait.
    """

    def __init__(self, host: str, port: int, timeout: float = 10.0) -> None:
        self.sock = socket.create_connection((host, port), timeout)
        self._http = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._http.initiate_connection()
        self._authority = f"{host}:{port}"
        self._headers: dict[str, str] = {}
        self._unread = bytearray()
        self._to_send = b""
        self._ended: bool | None = None
        """True: the body is complete. False: it was cut. None: it goes on."""

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    def leave(self) -> None:
        """Cancel the request (RST_STREAM); the connection stays open."""
        self._http.reset_stream(1, error_code=8)
        self._flush()

    def send(
        self,
        path: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> None:
        """Send the request. The rest of a large body is sent while the reply is read."""
        fields = {":method": method, ":path": path, ":scheme": "http"}
        fields |= {":authority": self._authority, **(headers or {})}
        self._http.send_headers(1, list(fields.items()), end_stream=not body)
        self._to_send = body
        self._send_body()

    def read_some(self) -> bytes:
        """The next bytes of the body; b"" at its end."""
        while not self._unread and self._ended is None:
            self._receive()
        some = bytes(self._unread)
        self._unread.clear()
        return some

    def read_reply(self) -> Reply:
        """Read the response to its end, whether it is complete or cut."""
        body = bytearray()
        while some := self.read_some():
            body += some
        status = int(self._headers.get(":status", 0))
        return Reply(status, self._headers, bytes(body), bool(self._ended))

    def _receive(self) -> None:
        data = self.sock.recv(READ_BYTES)
        if not data:
            self._ended = False
        for event in self._http.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                self._headers = {str(name): str(value) for name, value in event.headers}
            elif isinstance(event, h2.events.DataReceived):
                self._unread += event.data
                self._http.acknowledge_received_data(event.flow_controlled_length, 1)
            elif isinstance(event, h2.events.StreamEnded):
                self._ended = True
            elif isinstance(event, (h2.events.StreamReset, h2.events.ConnectionTerminated)):
                self._ended = False
        self._send_body()

    def _send_body(self) -> None:
        while self._to_send and self._ended is None:
            most = min(self._http.local_flow_control_window(1), self._http.max_outbound_frame_size)
            if not most:
                break
            part, self._to_send = self._to_send[:most], self._to_send[most:]
            self._http.send_data(1, part, end_stream=not self._to_send)
        self._flush()

    def _flush(self) -> None:
        self.sock.sendall(self._http.data_to_send())
