"""Writers and readers over HTTP that go on when the server is killed and started again.

Each is a thread. A writer repeats an append, with the same sequence, until it is acknowledged. A
reader continues from the last offset that it received.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from dataclasses import dataclass, field

from tests.servers import HOST

__all__ = [
    "Acked",
    "LongPollReader",
    "Reader",
    "SseReader",
    "Writer",
    "catch_up",
    "close",
    "create",
]

TIMEOUT = 10.0
"""Seconds that a read of a socket may wait."""

PAUSE = 0.05
"""Seconds between two attempts to connect: a client can only try whether the server is back."""

_BROKEN = (OSError, http.client.HTTPException)


@dataclass(frozen=True, slots=True)
class Acked:
    """An acknowledgement of an append.

    Attributes:
        seq: The append's sequence.
        end: The position after the append; None if the server said that it was a duplicate.
    """

    seq: int
    end: int | None


def create(port: int, path: str, content_type: str) -> None:
    """Create a stream. The server must be running."""
    _ask(port, "PUT", path, {"content-type": content_type})


def close(port: int, path: str) -> None:
    """Close a stream. The server must be running."""
    _ask(port, "POST", path, {"stream-closed": "true"})


def _ask(port: int, method: str, path: str, headers: dict[str, str]) -> None:
    connection = http.client.HTTPConnection(HOST, port, timeout=TIMEOUT)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if not 200 <= answer.status < 300:
        raise RuntimeError(f"{method} {path}: {answer.status} {body!r}")


def catch_up(port: int, path: str) -> list[bytes]:
    """Read a stream from its beginning to its tail. Returns the bodies of the answers."""
    connection = http.client.HTTPConnection(HOST, port, timeout=TIMEOUT)
    bodies, offset = [], "-1"
    while True:
        connection.request("GET", f"{path}?offset={offset}")
        answer = connection.getresponse()
        bodies.append(answer.read())
        if answer.status != 200:
            raise RuntimeError(f"GET {path} from {offset}: {answer.status} {bodies[-1]!r}")
        offset = answer.headers["Stream-Next-Offset"]
        if answer.headers.get("Stream-Up-To-Date") == "true":
            connection.close()
            return bodies


class _Client(threading.Thread):
    """A thread that goes on until it is told to stop."""

    def __init__(self, port: int, path: str) -> None:
        super().__init__(daemon=True)
        self.path = path
        self.problems: list[str] = []
        self.cuts = 0
        self._port = port
        self._done = threading.Event()

    def finish(self) -> None:
        self._done.set()

    def _connected(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=TIMEOUT)
        connection.connect()
        return connection

    def run(self) -> None:
        while not self._done.is_set():
            try:
                connection = self._connected()
            except OSError:
                self._done.wait(PAUSE)
                continue
            try:
                self._work(connection)
            except _BROKEN:
                self.cuts += 1
            finally:
                connection.close()

    def _work(self, connection: http.client.HTTPConnection) -> None:
        """Work until the client is told to stop, or the connection breaks."""
        raise NotImplementedError

    def _complain(self, what: str) -> None:
        self.problems.append(f"{self.name}: {what}")
        self._done.set()


class Writer(_Client):
    """Appends numbered messages, one after the other, as a producer.

    Args:
        port: The server's.
        path: The stream's.
        name: Its id as a producer.
        is_json: The stream is JSON.
        pause: Seconds between two appends.

    Attributes:
        acked: The acknowledgements, in order.
        sent: How many messages it has sent.
        retried: How many appends were acknowledged only as duplicates.
    """

    def __init__(self, port: int, path: str, name: str, is_json: bool, pause: float = 0) -> None:
        super().__init__(port, path)
        self.name = name
        self._pause = pause
        self.acked: list[Acked] = []
        self.sent = 0
        self.retried = 0
        self._is_json = is_json

    def message(self, seq: int) -> bytes:
        filler = "x" * (20 + seq * 7919 % 400)
        if self._is_json:
            return json.dumps({"writer": self.name, "number": seq, "more": filler}).encode()
        return f"{self.name} {seq} {filler}\n".encode()

    def _work(self, connection: http.client.HTTPConnection) -> None:
        while not self._done.is_set():
            seq = len(self.acked)
            self.sent = seq + 1
            connection.request("POST", self.path, self.message(seq), self._headers(seq))
            answer = connection.getresponse()
            body = answer.read()
            self._judge(seq, answer, body)
            if self._pause:
                self._done.wait(self._pause)

    def _headers(self, seq: int) -> dict[str, str]:
        return {
            "content-type": "application/json" if self._is_json else "text/plain",
            "producer-id": self.name,
            "producer-epoch": "0",
            "producer-seq": str(seq),
        }

    def _judge(self, seq: int, answer: http.client.HTTPResponse, body: bytes) -> None:
        if answer.status == 200:
            end = int(answer.headers["Stream-Next-Offset"].rpartition("_")[2])
            self.acked.append(Acked(seq, end))
        elif answer.status == 204:
            self.retried += 1
            self.acked.append(Acked(seq, None))
        elif answer.status >= 500:
            self._done.wait(PAUSE)
        else:
            self._complain(f"append {seq}: {answer.status} {body[:300]!r}")


class Reader(_Client):
    """Reads a stream from its beginning, and goes on after its connection was cut.

    Attributes:
        got: What it received, in order.
    """

    def __init__(self, port: int, path: str) -> None:
        super().__init__(port, path)
        self.got: list[bytes] = []
        self._socket: socket.socket | None = None

    def finish(self) -> None:
        """Stop, even while it waits for more data."""
        super().finish()
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _connected(self) -> http.client.HTTPConnection:
        connection = super()._connected()
        # Kept here, because `http.client` takes the socket away from the connection for an answer
        # that lasts until the connection closes.
        self._socket = connection.sock
        return connection

    def _refused(self, answer: http.client.HTTPResponse) -> None:
        body = answer.read()
        if answer.status >= 500:
            self._done.wait(PAUSE)
        else:
            self._complain(f"{answer.status} {body[:300]!r}")


class LongPollReader(Reader):
    """Reads by long-poll; `got` has the bodies."""

    def __init__(self, port: int, path: str) -> None:
        super().__init__(port, path)
        self.name = f"long-poll of {path}"
        self._offset = "-1"

    def _work(self, connection: http.client.HTTPConnection) -> None:
        while not self._done.is_set():
            connection.request("GET", f"{self.path}?offset={self._offset}&live=long-poll")
            answer = connection.getresponse()
            if answer.status not in (200, 204):
                self._refused(answer)
                continue
            body = answer.read()  # raises if the body was cut: then none of it counts
            if body:
                self.got.append(body)
            self._offset = answer.headers["Stream-Next-Offset"]


@dataclass(slots=True)
class _Event:
    name: str = "message"
    id: str | None = None
    data: list[bytes] = field(default_factory=list)


class SseReader(Reader):
    """Reads server-sent events as a browser does; `got` has the data of the events named "data"."""

    def __init__(self, port: int, path: str) -> None:
        super().__init__(port, path)
        self.name = f"SSE of {path}"
        self._last: str | None = None

    def _work(self, connection: http.client.HTTPConnection) -> None:
        headers = {"last-event-id": self._last} if self._last is not None else {}
        connection.request("GET", f"{self.path}?offset=-1&live=sse", headers=headers)
        answer = connection.getresponse()
        if answer.status != 200:
            return self._refused(answer)
        event = _Event()
        while not self._done.is_set():
            line = answer.readline()
            if not line.endswith(b"\n"):
                return None  # the end, or a line that was cut
            event = self._take(event, line.rstrip(b"\r\n"))
        return None

    def _take(self, event: _Event, line: bytes) -> _Event:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"":
                if line:
                    return event  # a comment
                if event.id is not None:
                    self._last = event.id
                if event.name == "data" and event.data:
                    self.got.append(b"\n".join(event.data))
                return _Event()
            case b"event":
                event.name = value.decode()
            case b"id":
                event.id = value.decode()
            case b"data":
                event.data.append(value)
        return event
