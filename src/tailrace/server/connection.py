"""One response's connection, offered in its scope as `tailrace.connection`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.types import Send

from tailrace.connection import leads_to
from tailrace.server.outlet import Outlet

__all__ = ["ResponseConnection"]


class ResponseConnection:
    """What `tailrace.pump.ServerConnection` says, for as long as the response lasts.

    Kept alive longer, it sees nothing and drops nobody: the connection may serve another response
    by then.

    Args:
        outlet: The way out.
        server_send: The server's own `send` of this response.
    """

    __slots__ = ("_outlet", "_send")

    def __init__(self, outlet: Outlet, server_send: Send) -> None:
        self._outlet: Outlet | None = outlet
        self._send: Send | None = server_send

    def end(self) -> None:
        """The response is over."""
        self._outlet = self._send = None

    @property
    def unsent_bytes(self) -> int:
        return 0 if self._outlet is None else self._outlet.unsent_bytes

    @property
    def buffered_bytes(self) -> int:
        return 0 if self._outlet is None else self._outlet.buffered_bytes

    @property
    def progress(self) -> int:
        return 0 if self._outlet is None else self._outlet.progress

    @property
    def stalled_since(self) -> float | None:
        return None if self._outlet is None else self._outlet.stalled_since

    @property
    def closed(self) -> bool:
        return self._outlet is None or self._outlet.is_closing

    @property
    def lost(self) -> bool:
        return self._outlet is None or self._outlet.is_lost

    @property
    def written_bytes(self) -> int:
        return 0 if self._outlet is None else self._outlet.written_bytes

    @property
    def aborted(self) -> bool:
        return self._outlet is not None and self._outlet.aborted

    @property
    def cut_off(self) -> str | None:
        return None if self._outlet is None else self._outlet.cut_off

    def abort(self, reason: str | None = None) -> None:
        if self._outlet is not None:
            self._outlet.abort(reason)

    def on_drain(self, call: Callable[[], None]) -> Callable[[], None]:
        if self._outlet is None:
            call()
            return _nothing
        return self._outlet.on_drain(call)

    def on_lost(self, call: Callable[[], None]) -> Callable[[], None]:
        if self._outlet is None:
            return asyncio.get_running_loop().call_soon(call).cancel
        return self._outlet.on_lost(call)

    def reached_by(self, send: Send) -> bool:
        return self._send is not None and leads_to(send, self._send)


def _nothing() -> None:
    """Nothing is left to be taken back."""
