"""The body of a request, taken in up to a limit; and what becomes of one that is not wanted.

Nearly every body of an append is there when the application is called: then its message is taken
by one step of `receive`, and no clock is set. Only a body that is not there is waited for.
"""

from __future__ import annotations

import asyncio
from typing import Final

import anyio
from starlette.types import Message, Receive

from tailrace import limits
from tailrace.errors import BodyStalled, Overloaded, TooLarge
from tailrace.protocol.fields import Fields
from tailrace.source import Rest, stepper

__all__ = ["Body"]

_REQUEST: Final = "http.request"
_DIGITS: Final = 18
"""Of a length that is looked at; no body has more."""


class _Held:
    """What all bodies of this process hold."""

    size = 0


class Body:
    """A request's body.

    Who has read one of more than `limits.BODY_FREE_BYTES` releases it when it is done with.

    Args:
        receive: ASGI's.
        fields: The request's header fields.
    """

    __slots__ = ("_fields", "_receive", "held", "is_read")

    def __init__(self, receive: Receive, fields: Fields) -> None:
        self._receive = receive
        self._fields = fields
        self.is_read = False
        """Nothing of it follows."""
        self.held = 0
        """Bytes that are counted as held."""

    @property
    def announced(self) -> int | None:
        """Its bytes, as the client has said; None if it has not."""
        length = self._fields.get(b"content-length")
        if length is None or not length.isdigit() or len(length) > _DIGITS:
            return None
        return int(length)

    @property
    def is_much(self) -> bool:
        """So much of it may follow that it is not worth to keep the connection.

        A server reads what was not asked for to its end, and throws it away.
        """
        if self.is_read:
            return False
        size = self.announced
        if size is None:
            return b"transfer-encoding" in self._fields
        return size > limits.BODY_LINGER_BYTES

    async def read(self, most: int, timeout: float) -> bytes | None:
        """All of it.

        Args:
            most: Bytes that it may have.
            timeout: Seconds without a byte after which the client is given up.

        Returns:
            The body; None if the client left before its end.

        Raises:
            TooLarge: It has more bytes (413); or says so, and then nothing of it was read.
            BodyStalled: Nothing came for too long (408).
            Overloaded: All bodies together are too many bytes (503).
        """
        size = self.announced
        if size is not None and size > most:
            raise TooLarge(most)
        whole: bytes | bytearray = b""
        while not self.is_read:
            message = await self._next(timeout)
            if message["type"] != _REQUEST:
                return None
            self.is_read = not message.get("more_body")
            part: bytes = message.get("body", b"")
            if len(whole) + len(part) > most:
                raise TooLarge(most)
            # Not a list of parts: a client that sends two bytes at a time would make it cost
            # twenty times as much as the body itself.
            if not whole:
                whole = part
            elif part:
                whole = whole if isinstance(whole, bytearray) else bytearray(whole)
                whole += part
            if len(whole) > limits.BODY_FREE_BYTES:
                self._hold(len(whole))
        return bytes(whole)

    def release(self) -> None:
        """It is held no more."""
        _Held.size -= self.held
        self.held = 0

    def _hold(self, size: int) -> None:
        if _Held.size + size - self.held > limits.BODIES_BYTES:
            raise Overloaded(limits.BODIES_BYTES)
        _Held.size += size - self.held
        self.held = size

    async def linger(self) -> None:
        """Throw away what still comes of it, for a while.

        To close a connection on which something comes is to reset it, and then a client that sends
        first and reads later never sees why it was refused.
        """
        left = limits.BODY_LINGER_BYTES
        with anyio.move_on_after(limits.BODY_LINGER):
            while left > 0:
                message = await self._receive()
                if message["type"] != _REQUEST or not message.get("more_body"):
                    return
                left -= len(message.get("body", b""))

    async def _next(self, timeout: float) -> Message:
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # trio, whose scopes must nest: no step before the clock is set
            with anyio.move_on_after(timeout):
                return await self._receive()
            raise BodyStalled(timeout) from None
        steps = stepper(self._receive())
        try:
            waiting = steps.send(None)
        except StopIteration as done:
            message: Message = done.value
            return message
        try:
            # Not a scope of anyio's: `receive` may have opened one, which must not end after it.
            async with asyncio.timeout(timeout):
                message = await Rest(steps, waiting)
        except TimeoutError:
            raise BodyStalled(timeout) from None
        return message
