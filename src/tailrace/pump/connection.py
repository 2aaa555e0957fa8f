"""What the server lets us see of the connection behind an ASGI call.

ASGI has no word for "drop this client": a response can only end. Two things go wrong with that.
uvicorn flushes what it has buffered, and a client that never reads keeps that buffer and the socket
for as long as it likes. And Starlette's `BaseHTTPMiddleware` turns a response that was cut into one
that ends in order, before it raises the error that cut it: the client cannot tell.

uvicorn's `receive` is a method of an object that holds the transport, so the transport can be asked
how much it still holds, be closed, and be aborted. A middleware may have put a `receive` of its own
in front: Starlette's are closures around the one behind, or hold it in a `Request`, and are looked
through. Elsewhere (granian, hypercorn) this finds nothing, and the response just ends unfinished.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from starlette.types import Receive, Scope

__all__ = ["Connection"]

_NO_LINGER = struct.pack("ii", 1, 0)
_LOOKS = 32
"""How many callables are looked through; ten middlewares deep is far."""


class Connection:
    """The transport behind a response, as far as it can be seen.

    Args:
        scope: Of the request. A connection of HTTP/2 is shared with other requests: hands off.
        receive: ASGI's.
    """

    __slots__ = ("_transport", "covered")

    def __init__(self, scope: Scope, receive: Receive | None) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self.covered = False
        """A middleware stands in between: ending unfinished may not reach the client as such."""
        if receive is not None and str(scope.get("http_version", "1.1")).startswith("1"):
            self._transport = _transport_of(receive)
            if self._transport is None:
                self._transport = next(filter(None, map(_transport_of, _behind(receive))), None)
                self.covered = self._transport is not None

    @property
    def unsent(self) -> int | None:
        """Bytes in the server's write buffer; None where it cannot be seen."""
        return None if self._transport is None else self._transport.get_write_buffer_size()

    def close(self) -> None:
        """End the connection when what is buffered has been sent, whatever the response says."""
        if self._transport is not None:
            self._transport.close()

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


def _transport_of(receive: Any) -> asyncio.WriteTransport | None:
    transport: Any = getattr(getattr(receive, "__self__", None), "transport", None)
    # uvloop's transports are no subclasses of asyncio's.
    known = all(hasattr(transport, name) for name in ("abort", "close", "get_write_buffer_size"))
    return transport if known else None


def _behind(receive: Any) -> Iterator[Any]:
    """The callables that a `receive` is made around, nearest first."""
    found = [receive]
    for thing in found:
        inner = [getattr(getattr(thing, "__self__", None), "_receive", None)]
        inner += [cell.cell_contents for cell in getattr(thing, "__closure__", None) or ()]
        found += [each for each in inner if callable(each) and each not in found]
        if len(found) > _LOOKS:
            break
    yield from found[1:]
