"""What the server offers to a response in its scope: its connection, and the sending of files.

A server offers `http.response.pathsend` by a name in `scope["extensions"]`, before it is known
which middleware is between the server and the response. If Starlette's `FileResponse` finds the
name, it sends that message instead of the file's bytes. A middleware that changes bodies then
silently changes nothing, and one that collects them (`@app.middleware("http")`) fails.

So the name is found only by a caller whose `send` leads straight to the server, as
`tailrace.connection.middleware` proves it. The function that looks the name up was called with
`send`, so its frame has a local variable `send`. A function without one, or one that looks into a
copy of the mapping, does not find the name, and reads the file itself.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from starlette.types import Send

from tailrace.connection import CONNECTION, ServerConnection, leads_to
from tailrace.server.response import PATHSEND, ZEROCOPYSEND
from tailrace.server.write_buffer import WriteBuffer

__all__ = ["Extensions", "ResponseConnection"]


class ResponseConnection:
    """A `tailrace.connection.ServerConnection` for as long as the response lasts.

    After that it is closed, shows nothing and aborts nothing: the connection may serve another
    response by then.

    Args:
        buffer: The connection's.
        server_send: The server's own `send` of this response.
    """

    __slots__ = ("_buffer", "_send")

    def __init__(self, buffer: WriteBuffer, server_send: Send) -> None:
        self._buffer: WriteBuffer | None = buffer
        self._send: Send | None = server_send

    def end(self) -> None:
        """Let go of the connection: the response is over."""
        self._buffer = self._send = None

    @property
    def unsent_bytes(self) -> int:
        return 0 if self._buffer is None else self._buffer.unsent_bytes

    @property
    def buffered_bytes(self) -> int:
        return 0 if self._buffer is None else self._buffer.buffered_bytes

    @property
    def progress(self) -> int:
        return 0 if self._buffer is None else self._buffer.progress

    @property
    def stalled_since(self) -> float | None:
        return None if self._buffer is None else self._buffer.stalled_since

    @property
    def closed(self) -> bool:
        return self._buffer is None or self._buffer.is_closing

    @property
    def lost(self) -> bool:
        return self._buffer is None or self._buffer.dropped

    @property
    def written_bytes(self) -> int:
        return 0 if self._buffer is None else self._buffer.written_bytes

    @property
    def aborted(self) -> bool:
        return self._buffer is not None and self._buffer.aborted

    @property
    def cut_off(self) -> str | None:
        return None if self._buffer is None else self._buffer.cut_off

    def abort(self, reason: str | None = None) -> None:
        if self._buffer is not None:
            self._buffer.abort(reason)

    def on_drain(self, call: Callable[[], None]) -> Callable[[], None]:
        if self._buffer is None:
            return asyncio.get_running_loop().call_soon(call).cancel
        return self._buffer.on_drain(call)

    def on_lost(self, call: Callable[[], None]) -> Callable[[], None]:
        if self._buffer is None:
            return asyncio.get_running_loop().call_soon(call).cancel
        return self._buffer.on_lost(call)

    def reached_by(self, send: Send) -> bool:
        return self._send is not None and leads_to(send, self._send)


class Extensions(dict[str, Any]):
    """A dict in which only a caller whose `send` leads to the server finds the names of files."""

    __slots__ = ()

    def __contains__(self, name: object) -> bool:
        if name in (PATHSEND, ZEROCOPYSEND):
            return self._reached_from(sys._getframe(1))
        return super().__contains__(name)

    def _reached_from(self, frame: FrameType) -> bool:
        connection: ServerConnection | None = self.get(CONNECTION)
        send = frame.f_locals.get("send")
        return connection is not None and send is not None and connection.reached_by(send)
