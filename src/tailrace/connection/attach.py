"""What a response and our server protocol agree on to write one message to thousands of clients.

An ordinary `send` is a coroutine that passes through every middleware, makes a message, frames it
as a chunk and copies it. For one message to a thousand subscribers that is a thousand times the
same work. A response that is *attached* writes prepared bytes straight to its connection instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from starlette.types import Message, Scope, Send

from tailrace.connection.connection import extensions_of

__all__ = ["ATTACH", "AttachOffer", "Attached", "Frame", "attach_offer"]

ATTACH = "tailrace.attach"
"""The name of the offer in `scope["extensions"]`."""


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
            raise ValueError("a frame without bytes would end the response: give it at least one")
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
