"""A server of one file that can be told to misbehave, in threads of the test's own process.

with FileServer(b"...") as server:
    server.faults.append(Fault(cut=1000))     # for the next request; the one after is served well
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

__all__ = ["Fault", "FileServer", "Seen"]

PART = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """How one answer differs from the right one.

    Args:
        status: Answered in place of the file, without a body.
        headers: Set over the right ones; None leaves one out.
        cut: Bytes of the body after which the connection is closed.
        stall: After `cut` bytes the connection stays open, silent, until the server stops.
        body: In place of the right body; Content-Length stays as it was.
        whole: Range is not looked at.
        part: What a 206 says in Content-Range and sends, whatever was asked: (start, stop).
        silent: Close at once, without a head.
    """

    status: int | None = None
    headers: Mapping[str, str | None] = field(default_factory=dict)
    cut: int | None = None
    stall: bool = False
    body: bytes | None = None
    whole: bool = False
    part: tuple[int, int] | None = None
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came."""

    path: str
    headers: dict[str, str]

    @property
    def range(self) -> str | None:
        return self.headers.get("range")


class FileServer:
    """Serves `content` at every path, with ranges; a context manager.

    Attributes:
        content: The file; may be changed between two requests.
        headers: Sent with each answer, beside the length and the place.
        faults: For the next requests, one each; `always` for those without one of their own.
        parts: Whether ranges are served.
        redirect: Where the path /away leads.
        seen: The requests that came, in order.
        stalled: Set when an answer has begun to stall.
    """

    def __init__(self, content: bytes, *, tls: ssl.SSLContext | None = None) -> None:
        self.content = content
        self.headers: dict[str, str] = {"etag": '"v1"'}
        self.faults: deque[Fault] = deque()
        self.always = Fault()
        self.parts = True
        self.redirect = ""
        self.seen: list[Seen] = []
        self.stalled = threading.Event()
        self.stopping = threading.Event()
        self._server = _Server(self)
        self._scheme = "http"
        if tls is not None:
            self._scheme = "https"
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}"

    def change(self, content: bytes, etag: str) -> None:
        """Put another file in the place of the first."""
        self.content = content
        self.headers["etag"] = etag

    def __enter__(self) -> FileServer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # joined by server_close: no thread outlives a test
    request_queue_size = 64

    def __init__(self, site: FileServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.site = site

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients that leave are what is tested


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10
    server: _Server

    def do_GET(self) -> None:
        site = self.server.site
        site.seen.append(Seen(self.path, {k.lower(): v for k, v in self.headers.items()}))
        if self.path == "/away":
            self._send(302, {"location": site.redirect, "content-length": "0"})
            return
        fault = site.faults.popleft() if site.faults else site.always
        if fault.silent:
            self.close_connection = True
        elif fault.status is not None:
            self._send(fault.status, {"content-length": "0", **fault.headers})
        else:
            self._answer(site, fault)

    def _answer(self, site: FileServer, fault: Fault) -> None:
        status, start, stop = self._place(site, fault)
        if status == 416:
            self._send(
                416, {"content-range": f"bytes */{len(site.content)}", "content-length": "0"}
            )
            return
        headers: dict[str, str | None] = {**site.headers, "content-length": str(stop - start)}
        if status == 206:
            headers["content-range"] = f"bytes {start}-{stop - 1}/{len(site.content)}"
        self._send(status, {**headers, **fault.headers})
        body = site.content[start:stop] if fault.body is None else fault.body
        self.wfile.write(body[: fault.cut])
        if fault.stall:
            self.wfile.flush()
            site.stalled.set()
            site.stopping.wait(10)
        if (
            fault.stall
            or fault.cut is not None
            or {**headers, **fault.headers}["content-length"] is None
        ):
            self.close_connection = True

    def _place(self, site: FileServer, fault: Fault) -> tuple[int, int, int]:
        size = len(site.content)
        asked = PART.fullmatch(self.headers.get("range", ""))
        if fault.part is not None:
            return 206, *fault.part
        version = self.headers.get("if-range")
        known = (site.headers.get("etag"), site.headers.get("last-modified"))
        if asked is None or fault.whole or not site.parts or version not in (None, *known):
            return 200, 0, size
        start = int(asked[1])
        stop = min(int(asked[2]) + 1, size) if asked[2] else size
        return (416, 0, 0) if start >= size else (206, start, stop)

    def _send(self, status: int, headers: Mapping[str, str | None]) -> None:
        self.send_response_only(status)
        for name, value in {"date": formatdate(usegmt=True), **headers}.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()

    def finish(self) -> None:
        # A connection that was not read to its end would be reset, and take what was sent with it.
        self.connection.shutdown(socket.SHUT_WR) if not isinstance(
            self.connection, ssl.SSLSocket
        ) else None
        super().finish()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        pass
