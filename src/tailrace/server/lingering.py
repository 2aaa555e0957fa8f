"""Reads on behind an answer whose request is not all here, or is the last, and throws that away.

To close a connection on which something still comes is to reset it. A reset overtakes the answer: a
client that sends first and reads later gets an error in its place, and a proxy makes a 502 of it.
So we end our own side, and read on until the client ends its side, or for a bounded time. Where the
connection is to be kept there is no such end, but the client has to go on at some pace.

Source: RFC 9112 9.6; nginx, `lingering_close`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress

from tailrace import limits

__all__ = ["Lingering"]


class Lingering:
    """The rest of one request's body, after its answer; or all that comes behind the last answer.

    Args:
        loop: The event loop.
        transport: Our side of it is ended.
        end: Called when enough was waited for.
    """

    __slots__ = (*("_alarm", "_end", "_loop", "_thrown_away", "_transport", "_until", "came"),)

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        end: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._end = end
        self._until = math.inf
        self._thrown_away = 0
        self.came = 0
        """Bytes that came since it was looked at."""
        self._alarm = loop.call_later(limits.LINGER_SILENCE, self._look)

    def end_our_side(self) -> None:
        """The connection ends: our side now, and the client's soon. A second time does nothing."""
        if self._until < math.inf:
            return
        self._until = self._loop.time() + limits.LINGER
        if self._transport.can_write_eof():  # TLS has no half of a connection
            with suppress(OSError):  # it was reset, which the transport will say
                self._transport.write_eof()

    def throw_away(self, count: int) -> None:
        """So many bytes came that are no part of the request; too many end it."""
        self.came += count
        self._thrown_away += count
        if self._thrown_away > limits.THROWN_AWAY_BYTES:
            self._end()

    def stop(self) -> None:
        """All of it is here, or the connection is lost."""
        self._alarm.cancel()

    def _look(self) -> None:
        is_slow = self.came < limits.LINGER_SILENCE * limits.BODY_MIN_RATE
        if is_slow or self._loop.time() >= self._until:
            self._end()
        else:
            self.came = 0
            self._alarm = self._loop.call_later(limits.LINGER_SILENCE, self._look)
