"""The body of a request: read up to a limit, or left unread.

Nearly every body of an append is there when the application is called: then one step of `receive`
takes its message, and no clock is set. Only a body that is not there is waited for.

Only the time counts in which we waited for the client. What it sent while the store was busy, or
while others had their turn, is there at once and costs nothing.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from typing import Final, Protocol, TypeVar

import anyio
from anyio.lowlevel import RunVar
from starlette.types import Message, Receive

from tailrace import limits
from tailrace.errors import BodyStalled, Overloaded, TooLarge
from tailrace.protocol.fields import Fields
from tailrace.runtime import Rest, stepper

__all__ = ["Body", "Pace", "who_makes_room"]

_REQUEST: Final = "http.request"
_DIGITS: Final = 18
"""Digits of a Content-Length that is read; no body has more bytes."""


class Pace:
    """How fast a body arrives, and how long its client is still waited for.

    Patience is a number of seconds. Waiting uses it up, and bytes give it back, at
    `limits.BODY_MIN_RATE`, but never more than there was at first. So silence ends a body when the
    patience is used up, and so does a rate below that one, a little later.

    Args:
        patience: Seconds.
    """

    __slots__ = ("came", "left", "patience", "waited")

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.left = patience
        """Seconds to wait for the next byte."""
        self.came = 0
        """Bytes that have arrived."""
        self.waited = 0.0
        """Seconds that we have waited for them."""

    def add(self, count: int) -> None:
        """Note that bytes have arrived."""
        self.came += count
        self.left = min(self.patience, self.left + count / limits.BODY_MIN_RATE)

    def wait(self, seconds: float) -> None:
        """Note a wait that is over."""
        self.waited += seconds
        self.left = max(0.0, self.left - seconds)

    def rate(self, waiting: float = 0.0) -> float:
        """Bytes for each second of waiting; infinite for a body that came almost at once.

        Args:
            waiting: Seconds of a wait that is not over.
        """
        waited = self.waited + waiting
        return math.inf if waited <= limits.BODY_SURE else self.came / waited


class Holder(Protocol):
    """A body, with its share of the bytes that all bodies may hold together."""

    held: int


AnyHolder = TypeVar("AnyHolder", bound=Holder)


def who_makes_room(
    need: int, rate: float, holders: Iterable[tuple[float, AnyHolder]]
) -> list[AnyHolder]:
    """The bodies that are cut off, the slowest first, because another one needs room.

    None are, if all that are slower than this one would not be enough: then it is refused itself.

    Args:
        need: Bytes that are missing.
        rate: Of the body that needs them.
        holders: The bodies that still arrive, and their rates.
    """
    slower = sorted((each for each in holders if each[0] < rate), key=lambda each: each[0])
    chosen: list[AnyHolder] = []
    for _, holder in slower:
        chosen.append(holder)
        need -= holder.held
        if need <= 0:
            return chosen
    return []


class _Held:
    """Bytes that all bodies of this process hold."""

    size = 0


_coming: RunVar[set[Body]] = RunVar("tailrace.bodies")
"""The bodies of this event loop that hold something, and wait for their client."""


class Body:
    """A request's body.

    After more than `limits.BODY_FREE_BYTES` were read, its owner must `release` it.

    Args:
        receive: ASGI's.
        fields: The request's header fields.
    """

    __slots__ = ("_cut", "_fields", "_pace", "_receive", "_since", "held", "is_read")

    def __init__(self, receive: Receive, fields: Fields) -> None:
        self._receive = receive
        self._fields = fields
        self.is_read = False
        """Its end was read."""
        self.held = 0
        """Bytes that are counted as held."""
        self._pace: Pace
        """Since `read` was called."""
        self._since = 0.0
        """When the present wait began."""
        self._cut: Callable[[], None] | None = None
        """Ends the present wait."""

    @property
    def announced(self) -> int | None:
        """Its size, if the request has a Content-Length; otherwise None."""
        length = self._fields.get(b"content-length")
        if length is None or not length.isdigit() or len(length) > _DIGITS:
            return None
        return int(length)

    @property
    def is_much(self) -> bool:
        """So many bytes may follow that it is not worth to keep the connection.

        To keep it, a server has to read the rest of the body, and to throw it away.
        """
        if self.is_read:
            return False
        size = self.announced
        if size is None:
            return b"transfer-encoding" in self._fields
        return size > limits.BODY_LINGER_BYTES

    async def read(self, most: int, timeout: float) -> bytes | None:
        """Read the whole body.

        Args:
            most: Bytes that it may have.
            timeout: Seconds to wait for a client that sends nothing, or less than
                `limits.BODY_MIN_RATE` (see `Pace`).

        Returns:
            The body; None if the client has left before its end.

        Raises:
            TooLarge: It has more bytes (413). If its Content-Length says so, nothing was read.
            BodyStalled: It came too slowly, or its bytes were needed for another body (408).
            Overloaded: All bodies together have too many bytes, and none is slower (503).
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
            # Not a list of parts: if a client sends two bytes at a time, that costs twenty times
            # the bytes of the body.
            if not whole:
                whole = part
            elif part:
                whole = whole if isinstance(whole, bytearray) else bytearray(whole)
                whole += part
            if len(whole) > limits.BODY_FREE_BYTES:
                self._hold(len(whole))
        return bytes(whole)

    def release(self) -> None:
        """Let go of the bytes that it holds."""
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
            coming.discard(each)  # its own task runs later
            each.release()
            assert each._cut is not None
            each._cut()
        return bool(slow)

    async def linger(self) -> None:
        """Read what still arrives, for a while, and throw it away. Our own server does so itself.

        A connection that is closed while bytes arrive is reset. Then a client that sends first and
        reads later never sees why it was refused.
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
            # Not a scope of anyio: `receive` may have opened one, which must not end after this.
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
    if not limit.expired():  # it may have, though its task has not run since
        limit.reschedule(0.0)
