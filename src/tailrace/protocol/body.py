"""The body of a request, taken in up to a limit; and what becomes of one that is not wanted.

Nearly every body of an append is there when the application is called: then its message is taken
by one step of `receive`, and no clock is set. Only a body that is not there is waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import anyio
from anyio.lowlevel import RunVar
from starlette.types import Message, Receive

from tailrace import limits
from tailrace.errors import BodyStalled, Overloaded, TooLarge
from tailrace.protocol.fields import Fields
from tailrace.protocol.pace import Pace, who_makes_room
from tailrace.runtime import Rest, stepper

__all__ = ["Body"]

_REQUEST: Final = "http.request"
_DIGITS: Final = 18
"""Of a length that is looked at; no body has more."""


class _Held:
    """What all bodies of this process hold."""

    size = 0


_coming: RunVar[set[Body]] = RunVar("tailrace.bodies")
"""Those of this event loop that hold something, and whose client is waited for."""


class Body:
    """A request's body.

    Who has read one of more than `limits.BODY_FREE_BYTES` releases it when it is done with.

    Args:
        receive: ASGI's.
        fields: The request's header fields.
    """

    __slots__ = ("_cut", "_fields", "_pace", "_receive", "_since", "held", "is_read")

    def __init__(self, receive: Receive, fields: Fields) -> None:
        self._receive = receive
        self._fields = fields
        self.is_read = False
        """Nothing of it follows."""
        self.held = 0
        """Bytes that are counted as held."""
        self._pace = Pace(limits.BODY_TIMEOUT)
        self._since = 0.0
        """When the wait began that is not over."""
        self._cut: Callable[[], None] | None = None
        """Ends that wait."""

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
            timeout: Seconds without a byte after which the client is given up; or with less than
                `limits.BODY_MIN_RATE`, see `Pace`.

        Returns:
            The body; None if the client left before its end.

        Raises:
            TooLarge: It has more bytes (413); or says so, and then nothing of it was read.
            BodyStalled: Too little came for too long, or others need the room (408).
            Overloaded: All bodies together are too many bytes, and none is slower (503).
        """
        size = self.announced
        if size is not None and size > most:
            raise TooLarge(most)
        self._pace = Pace(timeout)
        whole: bytes | bytearray = b""
        while not self.is_read:
            message = await self._next()
            if message["type"] != _REQUEST:
                return None
            self.is_read = not message.get("more_body")
            part: bytes = message.get("body", b"")
            self._pace.add(len(part))
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
        missing = _Held.size + size - self.held - limits.BODIES_BYTES
        if missing > 0 and not self._make_room(missing):
            raise Overloaded(limits.BODIES_BYTES)
        _Held.size += size - self.held
        self.held = size

    def _make_room(self, missing: int) -> bool:
        now = anyio.current_time()
        coming = _coming.get(set())
        rates = [(each._pace.rate(now - each._since), each) for each in coming]
        slow = who_makes_room(missing, self._pace.rate(), rates)
        for each in slow:
            coming.discard(each)  # its own task comes later
            each.release()
            assert each._cut is not None
            each._cut()
        return bool(slow)

    async def linger(self) -> None:
        """Throw away what still comes of it, for a while; our own server does so by itself.

        To close a connection on which something comes is to reset it, and then a client that sends
        first and reads later never sees why it was refused.
        """
        end = anyio.current_time() + limits.LINGER
        goes_on = True
        while goes_on:
            goes_on = False
            within = min(end - anyio.current_time(), limits.LINGER_SILENCE)
            with anyio.move_on_after(within):
                message = await self._receive()
                goes_on = message["type"] == _REQUEST and bool(message.get("more_body"))

    async def _next(self) -> Message:
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # trio, whose scopes must nest: no step before the clock is set
            with anyio.CancelScope() as scope:
                self._begin_to_wait(scope.cancel)
                scope.deadline = self._since + self._pace.left
                try:
                    return await self._receive()
                finally:
                    self._end_to_wait()
            raise BodyStalled(self._pace.patience) from None
        steps = stepper(self._receive())
        try:
            waiting = steps.send(None)
        except StopIteration as done:
            message: Message = done.value
            return message
        try:
            # Not a scope of anyio's: `receive` may have opened one, which must not end after it.
            async with asyncio.timeout(self._pace.left) as limit:
                self._begin_to_wait(lambda: _end(limit))
                try:
                    message = await Rest(steps, waiting)
                finally:
                    self._end_to_wait()
        except TimeoutError:
            raise BodyStalled(self._pace.patience) from None
        return message

    def _begin_to_wait(self, cut: Callable[[], None]) -> None:
        self._since, self._cut = anyio.current_time(), cut
        if self.held:
            try:
                _coming.get().add(self)
            except LookupError:
                _coming.set({self})

    def _end_to_wait(self) -> None:
        self._pace.wait(anyio.current_time() - self._since)
        self._cut = None
        if self.held:
            _coming.get().discard(self)


def _end(limit: asyncio.Timeout) -> None:
    if not limit.expired():  # it may be, and its task not know yet
        limit.reschedule(0.0)
