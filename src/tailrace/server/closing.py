"""How a connection ends after its last answer, how it ends under TLS, and how the server ends.

**Lingering.** If a connection is closed while the client still sends, the kernel resets it. The
reset overtakes the answer: a client that sends first and reads later gets an error instead, and a
proxy makes a 502 of it. So we end only our own side, and read on until the client ends its side, or
for a bounded time. If the connection is to be kept, we do not end our side, but the client has to
send the rest of its request at a minimum rate.

**TLS** ends with a message from each side, and an event loop waits 30 s for the client's. A client
that keeps its connections in a pool does not read between two requests, so it does not send this
message, and a server that stops would wait. We wait only `limits.TLS_CLOSE_TIMEOUT`: the message
only tells whether the client had sent everything.

**The server.** uvicorn waits until every connection is closed, for ever unless it was given a time.
A stream may never end, and a client that never reads keeps its connection open. So at shutdown open
streams are told to end, and what is still open after a given time is cut off.

Source: RFC 9112 9.6; nginx, `lingering_close`; RFC 8446 6.1.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

from tailrace import limits
from tailrace.connection import drain_beside, log
from tailrace.server.write_buffer import WriteBuffer

__all__ = ["Lingering", "Shutdown", "end_soon"]

_LAST_WORDS = 0.1
"""Seconds between the moment when open streams are cut and the moment when connections are."""

_STALLED = 0.5
"""Seconds without progress after which a client is not expected to take a farewell either."""


class Lingering:
    """Bounds what is read of a request after its response, and of all that follows the last one.

    Args:
        loop: The event loop.
        transport: The connection's.
        close: Closes the connection; called when a bound is reached.
    """

    __slots__ = ("_alarm", "_close", "_loop", "_thrown_away", "_transport", "_until", "came")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        close: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._close = close
        self._until = math.inf
        self._thrown_away = 0
        self.came = 0
        """Bytes that came since the last check."""
        self._alarm = loop.call_later(limits.LINGER_SILENCE, self._look)

    def end_our_side(self) -> None:
        """End our side, only once; the client has `limits.LINGER` seconds to end its side."""
        if self._until < math.inf:
            return
        self._until = self._loop.time() + limits.LINGER
        if self._transport.can_write_eof():  # not under TLS, where one side cannot end alone
            with suppress(OSError):  # it was reset: the transport will report it
                self._transport.write_eof()

    def throw_away(self, count: int) -> None:
        """Count bytes that belong to no request; over `limits.THROWN_AWAY_BYTES`, close."""
        self.came += count
        self._thrown_away += count
        if self._thrown_away > limits.THROWN_AWAY_BYTES:
            self._close()

    def stop(self) -> None:
        """Check no more: the request is complete, or the connection is lost."""
        self._alarm.cancel()

    def _look(self) -> None:
        is_slow = self.came < limits.LINGER_SILENCE * limits.BODY_MIN_RATE
        if is_slow or self._loop.time() >= self._until:
            self._close()
        else:
            self.came = 0
            self._alarm = self._loop.call_later(limits.LINGER_SILENCE, self._look)


def end_soon(
    buffer: WriteBuffer, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop
) -> None:
    """Abort a TLS connection that is closing, soon after its client has everything.

    Args:
        buffer: The connection's; without TLS nothing is done.
        transport: The connection's, which was told to close.
        loop: The event loop.
    """
    if buffer.encrypted:
        loop.call_later(limits.TLS_CLOSE_TIMEOUT, _end, buffer, transport, loop)


def _end(
    buffer: WriteBuffer, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop
) -> None:
    if buffer.closed:
        return
    if buffer.unsent_bytes:  # the event loop has a timeout of its own for this
        end_soon(buffer, transport, loop)
    else:
        transport.abort()


class Shutdown:
    """Ends the open responses of one server when it stops.

    Args:
        open_connections: Gives the write buffers of the connections that are open now.
        tasks: The tasks that the server waits for, one for each open response.
    """

    def __init__(
        self,
        open_connections: Callable[[], Collection[WriteBuffer]],
        tasks: set[asyncio.Task[Any]],
    ) -> None:
        self._open = open_connections
        self._tasks = tasks
        self._empty = asyncio.Event()
        self._begun = False

    def begin(self, budget: float) -> None:
        """Tell the open streams to end; cut off what is open after `budget` seconds. Only once."""
        if self._begun:
            return
        self._begun = True
        # Added to the server's own tasks: it waits for them, and cancels them at its own timeout.
        task = asyncio.get_running_loop().create_task(
            self._run(budget, self._held()), name="tailrace-shutdown"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def connection_lost(self) -> None:
        """Note that a connection was lost; the shutdown is over when none is left."""
        if self._begun and not self._open():
            self._empty.set()

    def _held(self) -> int:
        """How many responses the server waits for; one whose client stalls counts twice."""
        now = asyncio.get_running_loop().time()
        since = (buffer.stalled_since for buffer in self._open())
        stalled = sum(1 for each in since if each is not None and each + _STALLED <= now)
        return len(self._tasks) + stalled

    async def _run(self, budget: float, held: int) -> None:
        # A little later than the streams are cut, so that clients that read get the farewell.
        alarm = asyncio.get_running_loop().call_later(budget + _LAST_WORDS, self._cut, budget)
        try:
            await drain_beside(held, budget)
            if self._open():
                await self._empty.wait()
        finally:
            alarm.cancel()

    def _cut(self, budget: float) -> None:
        left = self._open()
        log.info("shutdown: %d connections cut off after %s s", len(left), budget)
        for buffer in left:
            buffer.abort("shut_down")
