"""The access log: one line of JSON for each response, when it is over.

A streaming response is not over when its head was sent, and not every response that ends was
received. So a line says how the response ended, and how many bytes of its body were accepted for
the client, also past any `send`: from a file, or on an attached connection.

The middleware hands every message on as it is, and wraps neither `receive` nor anything in the
scope, so that a response sees the server's own offers. The server may write bodies past it
(`tailrace.connection.middleware`): their bytes are read from the connection.
"""

from __future__ import annotations

import json
import logging
import time
from asyncio import CancelledError
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailrace import limits
from tailrace.connection import CONNECTION, ServerConnection

__all__ = ["ACCESS_LOGGER", "AccessLog", "ResponseRecord"]

ACCESS_LOGGER = "tailrace.access"

_BODY = "http.response.body"
_FILES = ("http.response.pathsend", "http.response.zerocopysend")


class AccessLog:
    """Logs each HTTP response of an application to `tailrace.access`, at level info.

    Put it around all other middleware, so that it sees what the client gets.

    Args:
        app: Any ASGI application.
        clock: Gives seconds, from any start.
        prefixed: The server puts its root path in front of the request's path, as uvicorn does
            (`--root-path`); the log leaves it out.
    """

    def __init__(
        self,
        app: ASGIApp,
        clock: Callable[[], float] = time.perf_counter,
        *,
        prefixed: bool = False,
    ) -> None:
        self._app = app
        self._clock = clock
        self._prefixed = prefixed
        self._log = logging.getLogger(ACCESS_LOGGER)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._log.isEnabledFor(logging.INFO):
            await self._app(scope, receive, send)
            return
        # Read before the application is called: a mount changes `root_path`.
        root = scope.get("root_path", "") if self._prefixed else ""
        record = ResponseRecord(scope, self._clock, root)

        async def counted(message: Message) -> None:
            record.sending(message)
            try:
                await send(message)
            except OSError:  # in ASGI: the client has left
                record.gone()
                raise
            record.sent(message)

        error: BaseException | None = None
        try:
            await self._app(scope, receive, counted)
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._log.info("%s", json.dumps(record.line(error)))
            del error  # otherwise the traceback and this frame keep each other alive


class ResponseRecord:
    """What is logged of one response, collected from its messages.

    Args:
        scope: The request's.
        clock: Gives seconds, from any start.
        root: What the server has put in front of the path.
    """

    __slots__ = (
        *("_began", "_bytes", "_clock", "_connection", "_finished", "_first", "_gone", "_length"),
        *("_root", "_scope", "_seen", "_status"),
    )

    def __init__(self, scope: Scope, clock: Callable[[], float], root: str = "") -> None:
        self._scope = scope
        self._root = root.encode()
        self._clock = clock
        self._connection: ServerConnection | None = (scope.get("extensions") or {}).get(CONNECTION)
        self._began = clock()
        self._first: float | None = None
        self._status: int | None = None
        self._length: int | None = None
        self._bytes = 0
        self._seen = self._written
        self._finished = False
        self._gone = False

    def gone(self) -> None:
        """Note that, by an error of the server's `send`, the client has left."""
        self._gone = True

    def sending(self, message: Message) -> None:
        """Note that a message is about to be sent."""
        self._count_written()
        if message["type"] == "http.response.start":
            self._first = self._clock()
            self._status = message["status"]
            self._length = _content_length(message)

    def sent(self, message: Message) -> None:
        """Note that the server has accepted a message."""
        kind = message["type"]
        if kind != _BODY and kind not in _FILES:
            return
        lost = self._connection is not None and self._connection.lost
        if kind == _BODY:
            # For these messages the connection's count may include the framing.
            self._bytes += 0 if lost else len(message.get("body", b""))
            self._seen = self._written
        elif self._connection is None:
            self._bytes += _size_said(message, self._length)
        if not message.get("more_body", False):
            self._finished = not lost

    def line(self, error: BaseException | None) -> dict[str, Any]:
        """The fields of the line, when the response is over; times are in seconds.

        Args:
            error: What the application raised, or None.
        """
        self._count_written()
        now, scope = self._clock(), self._scope
        client = scope.get("client")
        is_head = scope["method"] == "HEAD"
        return {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "client": None if client is None else _plain(str(client[0]).encode()),
            "method": _plain(scope["method"].encode()),
            "path": _plain(self._path),
            "status": self._status,
            "bytes": 0 if is_head else self._bytes,
            "duration": round(now - self._began, 6),
            "first_byte": None if self._first is None else round(self._first - self._began, 6),
            "outcome": self._outcome(error),
        }

    def _outcome(self, error: BaseException | None) -> str:
        connection = self._connection
        if connection is not None and connection.cut_off is not None:
            return connection.cut_off
        # A client that has the whole body may close before the last, empty message is sent.
        if self._finished or (self._length and self._bytes >= self._length):
            return "complete"
        if isinstance(error, CancelledError):
            return "cancelled"
        if self._gone or (error is None and connection is not None and connection.lost):
            return "left"
        return "cut" if error is None else "failed"

    @property
    def _path(self) -> bytes:
        path: bytes = self._scope.get("raw_path") or self._scope["path"].encode()
        return path.removeprefix(self._root)

    @property
    def _written(self) -> int:
        return 0 if self._connection is None else self._connection.written_bytes

    def _count_written(self) -> None:
        """Count what was written past `send` since the last look."""
        written = self._written
        self._bytes += written - self._seen
        self._seen = written


def _content_length(start: Message) -> int | None:
    for name, value in start.get("headers", ()):
        if bytes(name).lower() == b"content-length" and bytes(value).isdigit():
            return int(value)
    return None


def _size_said(message: Message, length: int | None) -> int:
    """The bytes of a file that another server sends, by its `count` or the content-length."""
    count = message.get("count")
    return count if isinstance(count, int) else length or 0


def _plain(text: bytes) -> str:
    """The text in printable ASCII, all else percent-encoded; a long text is cut."""
    most = limits.MAX_LOGGED_BYTES
    shown = "".join(chr(c) if 0x21 <= c <= 0x7E else f"%{c:02X}" for c in text[:most])
    return shown if len(text) <= most else f"{shown}..."
