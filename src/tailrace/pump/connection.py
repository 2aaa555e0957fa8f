"""What the server lets us see of the connection behind an ASGI call.

ASGI has no word for "drop this client": a response can only end. uvicorn then flushes what it has
buffered, and a client that never reads keeps that buffer and the socket for as long as it likes.

uvicorn's `receive` is a method of an object that holds the transport, so the transport can be asked
how much it still holds, and be aborted. A middleware may have put a `receive` of its own
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

    __slots__ = ("_transport", "ends_in_order")

    def __init__(self, scope: Scope, receive: Receive | None) -> None:
        chain = list(_behind(receive))
        self.ends_in_order = any(
            getattr(each, "__module__", None) == "starlette.middleware.base" for each in chain
        )
        """Starlette's BaseHTTPMiddleware is in front: it would end in order what was cut."""
        shared = not str(scope.get("http_version", "1.1")).startswith("1")
        found = None if shared else next(filter(None, map(_transport_of, chain)), None)
        self._transport: asyncio.WriteTransport | None = found

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


def _transport_of(receive: Any) -> asyncio.WriteTransport | None:
    transport: Any = getattr(getattr(receive, "__self__", None), "transport", None)
    # uvloop's transports are no subclasses of asyncio's.
    known = all(hasattr(transport, name) for name in ("abort", "get_write_buffer_size"))
    return transport if known else None


def _behind(receive: Any) -> Iterator[Any]:
    """A `receive` and the callables that it is made around, nearest first."""
    found = [receive]
    for thing in found:
        inner = [getattr(getattr(thing, "__self__", None), "_receive", None)]
        names = getattr(getattr(thing, "__code__", None), "co_freevars", ())
        cells = getattr(thing, "__closure__", None) or ()
        # By name: another callable in there may belong to another connection (`writer.write`).
        inner += [
            cell.cell_contents
            for name, cell in zip(names, cells, strict=False)
            if name.endswith("receive")
        ]
        found += [each for each in inner if callable(each) and each not in found]
        if len(found) > _LOOKS:
            break
    yield from found
