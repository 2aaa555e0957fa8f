"""The body of a request: read up to a limit, or left unread.

Nearly every body of an append has arrived when the application is called: then one step of
`receive` returns it, and no timeout is set. A timeout is set only for a body that has not arrived.

Only the time spent waiting for the client counts. What it sent while the store was busy, or while
other tasks ran, is there at once and uses up no time.
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
"""Digits of the longest Content-Length that is taken for a number; no body has more bytes."""


class Pace:
    """How fast a body arrives, and how long the server still waits for it.

    A body has `patience` seconds. Waiting uses them up; each `limits.BODY_MIN_RATE` bytes that
    arrive give one second back, but there are never more than `patience`. So a client that sends
    nothing uses them up, and so does, later, a client that sends less than that rate.

    Args:
        patience: Seconds.
    """

    __slots__ = ("came", "left", "patience", "waited")

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.left = patience
        """Seconds that the server still waits for the next byte."""
        self.came = 0
        """Bytes that have arrived."""
        self.waited = 0.0
        """Seconds that the server has waited for them."""

    def add(self, count: int) -> None:
        """Count bytes that have arrived."""
        self.came += count
        self.left = min(self.patience, self.left + count / limits.BODY_MIN_RATE)

    def wait(self, seconds: float) -> None:
        """Count the seconds of a wait that is over."""
        self.waited += seconds
        self.left = max(0.0, self.left - seconds)

    def rate(self, waiting: float = 0.0) -> float:
        """Bytes per second of waiting; infinite up to `limits.BODY_SURE` seconds of waiting.

        Args:
            waiting: Seconds of a wait that is not over; they count too.
        """
        waited = self.waited + waiting
        return math.inf if waited <= limits.BODY_SURE else self.came / waited


class Holder(Protocol):
    """A body that holds bytes; all bodies together may hold `limits.BODIES_BYTES`."""

    held: int


AnyHolder = TypeVar("AnyHolder", bound=Holder)


def who_makes_room(
    need: int, rate: float, holders: Iterable[tuple[float, AnyHolder]]
) -> list[AnyHolder]:
    """Choose the bodies to cut off, the slowest first, because another body needs room.

    Only slower bodies than that one are chosen. If all of them together hold too little, none is
    chosen: then the body that needs room is refused.

    Args:
        need: Bytes that are missing.
        rate: Of the body that needs them, in bytes per second.
        holders: The bodies that still arrive, each after its rate.
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
    """Bytes that all bodies of this process hold together."""

    size = 0


_coming: RunVar[set[Body]] = RunVar("tailrace.bodies")
"""The bodies of this event loop that hold bytes and wait for more."""


class Body:
    """A request's body.

    When more than `limits.BODY_FREE_BYTES` were read (`held`), its owner must call `release`.

    Args:
        receive: ASGI's.
        fields: The request's header fields.
    """

    __slots__ = ("_cut", "_fields", "_pace", "_receive", "_since", "held", "is_read")

    def __init__(self, receive: Receive, fields: Fields) -> None:
        self._receive = receive
        self._fields = fields
        self.is_read = False
        """Whether its end was read."""
        self.held = 0
        """Bytes of it that count towards `limits.BODIES_BYTES`."""
        self._pace: Pace
        """Set by `read`."""
        self._since = 0.0
        """When the present wait began."""
        self._cut: Callable[[], None] | None = None
        """Ends the present wait."""

    @property
    def announced(self) -> int | None:
        """Its Content-Length; None if the request has none, or one that is not valid."""
        length = self._fields.get(b"content-length")
        if length is None or not length.isdigit() or len(length) > _DIGITS:
            return None
        return int(length)

    @property
    def is_much(self) -> bool:
        """Whether so much of it may still arrive that the connection is not worth keeping.

        To keep the connection, a server has to read the rest of the body and throw it away.
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
            timeout: Seconds to wait for a client that sends nothing; bytes that arrive give some of
                them back (see `Pace`).

        Returns:
            The body; None if the client has left before its end.

        Raises:
            TooLarge: It has more bytes (413). If its Content-Length says so, nothing was read.
            BodyStalled: It came too slowly, or was cut off because another body needed room (408).
            Overloaded: All bodies together would hold too many bytes, and to cut off those that are
                slower would not be enough (503).
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
            # Not a list of parts: from a client that sends two bytes at a time, the list would take
            # twenty times the memory of the body.
            if not whole:
                whole = part
            elif part:
                whole = whole if isinstance(whole, bytearray) else bytearray(whole)
                whole += part
            if len(whole) > limits.BODY_FREE_BYTES:
                self._hold(len(whole))
        return bytes(whole)

    def release(self) -> None:
        """Count its bytes no longer."""
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
            coming.discard(each)  # now, since its own task runs only later
            each.release()
            assert each._cut is not None
            each._cut()
        return bool(slow)

    async def linger(self) -> None:
        """Read what still arrives and throw it away.

        This lasts `limits.LINGER` seconds at most, and `limits.LINGER_SILENCE` without a byte. If a
        connection is closed while bytes arrive, it is reset, and a client that reads only when it
        has sent everything never sees why it was refused.
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
        except RuntimeError:  # trio: scopes must nest, so no step comes before
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
            # Not a scope of anyio: its scopes must nest, and the first step of `receive` may have
            # opened one that ends within this block.
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
    if not limit.expired():  # it may have expired, and its task has not run since
        limit.reschedule(0.0)
