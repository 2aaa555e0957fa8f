"""The ends: of a connection behind its last answer, of one under TLS, and of the whole server.

**Lingering.** To close a connection on which something still comes is to reset it. A reset
overtakes the answer: a client that sends first and reads later gets an error in its place, and a
proxy makes a 502 of it. So we end our own side, and read on until the client ends its side, or for
a bounded time. Where the connection is to be kept there is no such end, but the client has to go on
at some pace.

**TLS** ends with a message from each side, and an event loop waits for the client's for half a
minute. A client that keeps its connections in a pool does not read while it has nothing to ask, so
it sends none, and holds a server that stops. Nobody has to wait for that message: it only tells
whether the client had more to say.

**The server.** uvicorn waits until every connection is closed, for ever unless it was given a time.
A stream may never end, and a client that never reads keeps a connection open that has nothing left
to say. So each open response is told, and none holds the server beyond a budget.

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
"""Seconds between the end of the streams and the end of their connections."""

_STALLED = 0.5
"""Seconds without progress after which a client is thought not to take its farewell either."""


class Lingering:
    """Bounds what is read of a request after its answer, or of all that comes behind the last one.

    Args:
        loop: The event loop.
        transport: The connection's.
        close: Called when enough was waited for.
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
        """So many bytes came that are not part of the request; too many end it."""
        self.came += count
        self._thrown_away += count
        if self._thrown_away > limits.THROWN_AWAY_BYTES:
            self._close()

    def stop(self) -> None:
        """All of it is here, or the connection is lost."""
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
    """See that a connection that is being closed ends as soon as its client has everything.

    Args:
        buffer: The connection's; nothing is done where it is not encrypted.
        transport: It was told to close.
        loop: The event loop.
    """
    if buffer.encrypted:
        loop.call_later(limits.TLS_CLOSE_TIMEOUT, _end, buffer, transport, loop)


def _end(
    buffer: WriteBuffer, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop
) -> None:
    if buffer.closed:
        return
    if buffer.unsent_bytes:  # the event loop's own time for this is still running
        end_soon(buffer, transport, loop)
    else:
        transport.abort()


class Shutdown:
    """The end of the responses of one server.

    Args:
        open_connections: What is open now: the write buffers.
        tasks: Where the server keeps the tasks that it waits for.
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
        """Tell the responses, and cut in `budget` seconds what has not ended. Once."""
        if self._begun:
            return
        self._begun = True
        # Among the server's own: it waits for them, and cancels them when its own time is up.
        task = asyncio.get_running_loop().create_task(
            self._run(budget, self._held()), name="tailrace-shutdown"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def connection_lost(self) -> None:
        """A connection is gone."""
        if self._begun and not self._open():
            self._empty.set()

    def _held(self) -> int:
        """Responses that hold the server; a stream whose client stalls counts twice."""
        now = asyncio.get_running_loop().time()
        since = (buffer.stalled_since for buffer in self._open())
        stalled = sum(1 for each in since if each is not None and each + _STALLED <= now)
        return len(self._tasks) + stalled

    async def _run(self, budget: float, held: int) -> None:
        # A little later than the streams are cut, so that those that read get their last words.
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
