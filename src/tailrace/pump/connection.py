"""What the server lets us see of the connection behind an ASGI call.

ASGI has no word for "drop this client": a response can only end. uvicorn then flushes what it has
buffered, and a client that never reads keeps that buffer and the socket for as long as it likes.
uvicorn's `receive` is a method of an object that holds the transport, so where no middleware has
put its own `receive` in front, the transport can be asked how much it still holds, and be aborted.
Elsewhere (granian, hypercorn) this finds nothing, and the response just ends unfinished.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress

from starlette.types import Receive

__all__ = ["Connection"]

_NO_LINGER = struct.pack("ii", 1, 0)


class Connection:
    """The transport behind a response, as far as it can be seen."""

    __slots__ = ("_transport",)

    def __init__(self, receive: Receive | None) -> None:
        transport = getattr(getattr(receive, "__self__", None), "transport", None)
        known = isinstance(transport, asyncio.WriteTransport) or all(
            hasattr(transport, name) for name in ("abort", "get_write_buffer_size")
        )
        self._transport: asyncio.WriteTransport | None = transport if known else None

    @property
    def unsent(self) -> int | None:
        """Bytes in the server's write buffer; None where it cannot be seen."""
        return None if self._transport is None else self._transport.get_write_buffer_size()

    def abort(self) -> None:
        """Drop the client at once, with what is buffered for it."""
        if self._transport is None:
            return
        connection = self._transport.get_extra_info("socket")
        if connection is not None:
            # Without this the kernel keeps what it holds for the client, megabytes of it, and goes
            # on asking whether it can be sent. With it the client gets a reset.
            with suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._transport.abort()
