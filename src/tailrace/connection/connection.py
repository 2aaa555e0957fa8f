"""What the server lets us see of the connection behind an ASGI call, and do with it.

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

**Attached.** An ordinary `send` is a coroutine that passes through every middleware, makes a
message, frames it as a chunk and copies it. For one message to a thousand subscribers that is a
thousand times the same work. A response that is attached writes prepared bytes straight to its
connection instead, where our server protocol offers that (`tailrace.attach`).
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Protocol

from starlette.types import Message, Receive, Scope, Send

__all__ = [
    "ATTACH",
    "CONNECTION",
    "AttachOffer",
    "Attached",
    "Connection",
    "Frame",
    "ServerConnection",
    "answer_lifespan",
    "attach_offer",
    "behind",
    "extensions_of",
    "reset",
]

CONNECTION = "tailrace.connection"
"""The name of the server's connection in `scope["extensions"]`."""

ATTACH = "tailrace.attach"
"""The name of its offer to hand it over."""

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
    # uvloop's transports are not subclasses of asyncio's.
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
    """The keyword argument of that name that a partial holds."""
    return [keywords.get(word)] if isinstance(keywords, dict) else []


# Attached


class Frame:
    """Bytes for many clients, framed as a chunk once for all of them.

    Args:
        data: At least one byte: a chunk without any would end the body.

    Raises:
        ValueError: No bytes.

    Source: RFC 9112 7.1.
    """

    __slots__ = ("chunk", "data", "size")

    def __init__(self, data: bytes) -> None:
        if not data:
            raise ValueError("a frame without bytes would end the response: give at least one byte")
        self.data = data
        self.chunk = b"%x\r\n%b\r\n" % (len(data), data)
        self.size = len(self.chunk)


class Attached(Protocol):
    """A response's connection, handed over for writes that never wait."""

    @property
    def buffered_bytes(self) -> int:
        """Bytes of frames that wait here for the client."""

    @property
    def closed(self) -> bool:
        """The client has left, or the connection was given back."""

    def write(self, frame: Frame) -> bool:
        """Write a frame, or take none of it.

        Args:
            frame: One that other clients are given as well.

        Returns:
            True: it is on its way, after all frames before it. False: too much waits for this
            client already (`limits.ATTACH_BUFFER_BYTES`), or it is gone; nothing was written.
        """

    def on_drain(self, call: Callable[[], None]) -> Callable[[], None]:
        """Call once when no frame waits any more, or the client has left; soon if that is so now.

        Args:
            call: It must not raise.

        Returns:
            What takes the call back.
        """

    def release(self) -> None:
        """Give the connection back, so that the response ends by ordinary messages. Frames that
        were taken are still sent, before them."""


class AttachOffer(Protocol):
    """The server's offer to hand a connection over."""

    async def attach(self, send: Send, start: Message, first: bytes) -> Attached | None:
        """Send the start of a response and its first bytes, then hand the connection over.

        Args:
            send: What the response was called with.
            start: An `http.response.start` without a content-length.
            first: The first bytes of the body, at least one.

        Returns:
            The connection; or None if writing to it would pass over a middleware that may want to
            see the body. Both messages have been sent either way, and without a connection the
            response goes on with ordinary ones.
        """


def attach_offer(scope: Scope) -> AttachOffer | None:
    """The offer of the server behind a request, if it makes one.

    Args:
        scope: Of the request.
    """
    offer: AttachOffer | None = extensions_of(scope).get(ATTACH)
    return offer


# The lifespan


async def answer_lifespan(receive: Receive, send: Send) -> None:
    """Answer for an application that has nothing to start and nothing to stop.

    A server asks whom it serves; hypercorn's dispatcher (Quart) asks everything that is mounted.

    Source: ASGI's lifespan protocol.
    """
    while True:
        asked: str = (await receive())["type"]
        await send({"type": f"{asked}.complete"})
        if asked == "lifespan.shutdown":
            return
