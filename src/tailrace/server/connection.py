"""One response's connection, offered in its scope as `tailrace.connection`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.types import Send

from tailrace.connection import leads_to
from tailrace.server.write_buffer import WriteBuffer

__all__ = ["ResponseConnection"]


class ResponseConnection:
    """What `tailrace.pump.ServerConnection` says, for as long as the response lasts.

    Kept alive longer, it sees nothing and drops nobody: the connection may serve another response
    by then.

    Args:
        buffer: The way out.
        server_send: The server's own `send` of this response.
    """

    __slots__ = ("_buffer", "_send")

    def __init__(self, buffer: WriteBuffer, server_send: Send) -> None:
        self._buffer: WriteBuffer | None = buffer
        self._send: Send | None = server_send

    def end(self) -> None:
        """The response is over."""
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
        return self._buffer is None or self._buffer.is_lost

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
            call()
            return _nothing
        return self._buffer.on_drain(call)

    def on_lost(self, call: Callable[[], None]) -> Callable[[], None]:
        if self._buffer is None:
            return asyncio.get_running_loop().call_soon(call).cancel
        return self._buffer.on_lost(call)

    def reached_by(self, send: Send) -> bool:
        return self._send is not None and leads_to(send, self._send)


def _nothing() -> None:
    """Nothing is left to be taken back."""
