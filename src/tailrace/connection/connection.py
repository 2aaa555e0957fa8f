"""What the server lets us see of the connection behind an ASGI call.

ASGI has no word for "drop this client": a response can only end. uvicorn then flushes what it has
buffered, and a client that never reads keeps that buffer and the socket for as long as it likes.

Our own server protocol offers the connection in the scope (`tailrace.connection`). There the bytes
in the kernel's buffer count as unsent too, so that a slow client is told from a stalled one: the
kernel asks for more only when a third of its buffer, a megabyte or so, is free again.

Elsewhere uvicorn's `receive` and `send` are methods of an object that holds the transport, so the
transport can be asked how much it still holds, and be aborted. A middleware may have put a callable
of its own in front of either: Starlette's are closures around the one behind, or hold it in a
`Request`, and are looked through. Under other servers (granian, hypercorn) this finds nothing, and
the response just ends unfinished.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Protocol

from starlette.types import Receive, Scope, Send

__all__ = ["CONNECTION", "Connection", "ServerConnection", "behind", "extensions_of", "reset"]

CONNECTION = "tailrace.connection"
"""The name of the offer in `scope["extensions"]`."""

_NO_LINGER = struct.pack("ii", 1, 0)
_LOOKS = 32
"""How many callables are looked through; ten middlewares deep is far."""


class ServerConnection(Protocol):
    """A response's connection, as our server protocol offers it in the scope."""

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the client has not taken: buffered here, or in the kernel's socket."""

    @property
    def buffered_bytes(self) -> int:
        """Bytes that are buffered here, in this process."""

    @property
    def progress(self) -> int:
        """Bytes that the client has taken since it connected; only grows while one response is
        sent."""

    @property
    def stalled_since(self) -> float | None:
        """The loop's time since when nothing was taken though something waits; None otherwise."""

    @property
    def closed(self) -> bool:
        """The connection is closed, or the response is over."""

    @property
    def lost(self) -> bool:
        """The client is gone, or was dropped, or the response is over. Unlike `closed` it is False
        where the server closes in order because all was sent."""

    @property
    def written_bytes(self) -> int:
        """Bytes of bodies that were taken for the client since it connected, whether it has them
        yet or not; with their framing where they went past the server's own `send`."""

    @property
    def aborted(self) -> bool:
        """The client was dropped from here, by `abort` or by a transfer that has failed."""

    @property
    def cut_off(self) -> str | None:
        """Why the client was dropped: the reason that `abort` was given."""

    def abort(self, reason: str | None = None) -> None:
        """Drop the client at once, with what is buffered for it.

        Args:
            reason: For access logs.
        """

    def on_drain(self, call: Callable[[], None]) -> Callable[[], None]:
        """Call once when nothing is buffered here, or the connection is closed; soon if that is so
        now. Returns what takes the call back."""

    def on_lost(self, call: Callable[[], None]) -> Callable[[], None]:
        """Call once when the client is gone, or the connection is another protocol's; soon if that
        is so now, or the response is over. Returns what takes the call back."""

    def reached_by(self, send: Send) -> bool:
        """Whether what is given to `send` comes to the server as it is, body and all."""


class Connection:
    """The connection behind a response, as far as it can be seen.

    Args:
        scope: Of the request; may hold the server's own offer. A connection of HTTP/2 is shared
            with other requests: hands off.
        receive: ASGI's; None where there is none.
        send: ASGI's.
    """

    __slots__ = ("_offered", "_transport", "ends_in_order")

    def __init__(self, scope: Scope, receive: Receive | None, send: Send) -> None:
        chain = list(behind(receive))
        self.ends_in_order = any(
            getattr(each, "__module__", None) == "starlette.middleware.base" for each in chain
        )
        """Starlette's BaseHTTPMiddleware is in front: it would end in order what was cut."""
        self._offered: ServerConnection | None = extensions_of(scope).get(CONNECTION)
        shared = not str(scope.get("http_version", "1.1")).startswith("1")
        hidden = self._offered is not None or shared
        self._transport: asyncio.WriteTransport | None = None
        if not hidden:
            found = map(_transport_of, (*chain, *behind(send, "send")))
            self._transport = next(filter(None, found), None)

    @property
    def unsent(self) -> int | None:
        """A number that shrinks by the bytes that the client takes; None where that cannot be seen.

        Under our server protocol not the bytes that are buffered: while it copies a file into the
        socket there are always some, however much the client takes.
        """
        if self._offered is not None:
            return -self._offered.progress
        return None if self._transport is None else self._transport.get_write_buffer_size()

    def abort(self, reason: str | None = None) -> None:
        """Drop the client at once, with what is buffered for it.

        Args:
            reason: For access logs.
        """
        if self._offered is not None:
            self._offered.abort(reason)
            return
        if self._transport is not None:
            reset(self._transport)


def reset(transport: asyncio.WriteTransport) -> None:
    """Drop a connection at once, with what is buffered for it here and in the kernel."""
    connection = transport.get_extra_info("socket")
    # One that was closed before may name a number that somebody else has by now (uvloop).
    is_ours = not transport.is_closing() or transport.get_write_buffer_size() > 0
    if connection is not None and is_ours:
        # Without this the kernel keeps what it holds for the client, megabytes of it, and goes on
        # asking whether it can be sent. With it the client gets a reset.
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    with suppress(AttributeError):  # asyncio's, up to 3.11, of one that was closed before
        transport.abort()


def extensions_of(scope: Scope | None) -> dict[str, Any]:
    """What the server offers beyond ASGI itself."""
    # ASGI allows `extensions` to be missing, and some servers give None.
    return (scope or {}).get("extensions") or {}


def _transport_of(call: Any) -> asyncio.WriteTransport | None:
    transport: Any = getattr(getattr(call, "__self__", None), "transport", None)
    # uvloop's transports are no subclasses of asyncio's.
    known = all(hasattr(transport, name) for name in ("abort", "get_write_buffer_size"))
    return transport if known else None


def behind(call: Any, word: str = "receive") -> Iterator[Any]:
    """A `receive` or `send` and the callables that it is made around, nearest first.

    Args:
        call: What an application was called with.
        word: How those callables are named.
    """
    found = [call]
    for thing in found:
        held = getattr(thing, "__self__", None)
        inner = [getattr(held, "_" + word, None), *_named(word, getattr(thing, "keywords", None))]
        names = getattr(getattr(thing, "__code__", None), "co_freevars", ())
        cells = getattr(thing, "__closure__", None) or ()
        # By name: another callable in there may belong to another connection (`writer.write`).
        inner += [
            cell.cell_contents
            for name, cell in zip(names, cells, strict=False)
            if name.endswith(word)
        ]
        found += [each for each in inner if callable(each) and each not in found]
        if len(found) > _LOOKS:
            break
    yield from found


def _named(word: str, keywords: Any) -> list[Any]:
    """What a partial was given by that name."""
    return [keywords.get(word)] if isinstance(keywords, dict) else []
