"""Whether the client is still there, while nothing is read from it.

A transport that is paused sees no end of the connection, and one that has seen the client's end of
it reads no more, so that a reset behind that is not seen either. Linux tells both without a read.
Elsewhere the next write tells.

**A client that has ended its side** may have left, or wait for its answer. `nc -N`, health probes
and some libraries end their side behind the request and then read. A browser that is closed, or a
client that gives up, looks the same: both are one FIN. Only what is sent tells them apart, for a
client that has left answers it with a reset, and one that waits acknowledges it.

So a response with an end goes on: a length was promised. One that may be without an end goes on
only for a client that ended its side right behind its request, and that has acknowledged something
since. Any other has left: a silent stream must not be kept open for nobody. Where nothing was sent
yet, something is: an interim response, which a client of HTTP/1.1 has to pass over.

Source: RFC 9112 9.6; RFC 9110 15.2; RFC 9293 3.6.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum

from tailrace import limits
from tailrace.server.write_buffer import WriteBuffer

__all__ = ["HalfClosed", "PeerVerdict", "PeerWatch", "ResponseProgress"]

_PROBE = b"HTTP/1.1 100 Continue\r\n\r\n"
"""The one interim response that every client knows."""


# Decided without waiting --------------------------------------------------------------------------


class PeerVerdict(Enum):
    """What is done about a client that has ended its side."""

    STAYS = "stays"
    """It gets the rest of its answer."""
    LEFT = "left"
    UNKNOWN = "unknown"
    """Look again in a moment."""
    PROBE = "probe"
    """Send it an interim response, once: one that has left answers with a reset."""


@dataclass(frozen=True, slots=True)
class ResponseProgress:
    """How far a response is.

    Args:
        started: Its head was sent.
        endless: No length was promised.
        acknowledged: Bytes that the client has acknowledged on this connection.
        may_probe: The client knows interim responses.
    """

    started: bool
    endless: bool
    acknowledged: int
    may_probe: bool = True


@dataclass(frozen=True, slots=True)
class HalfClosed:
    """What is known of a client that has ended its side.

    Args:
        since: The loop's time, of its end or, if that is later, of the response's beginning.
        at_once: It was right behind its request.
        acknowledged: Bytes that it had acknowledged by then.
        probed: It was sent an interim response or a head, and did not answer with a reset.
    """

    since: float
    at_once: bool
    acknowledged: int
    probed: bool = False

    @classmethod
    def seen(cls, now: float, asked_at: float, progress: ResponseProgress) -> HalfClosed:
        """A client that ends its side now, and whose request was complete at `asked_at`."""
        return cls(now, now < asked_at + limits.HALF_CLOSE_GRACE, progress.acknowledged)

    def verdict(self, now: float, progress: ResponseProgress) -> PeerVerdict:
        """Whether the client is still there."""
        if self.probed or (progress.started and self._reads(progress)):
            return PeerVerdict.STAYS
        if self.at_once and now < self.since + limits.HALF_CLOSE_GRACE:
            return PeerVerdict.UNKNOWN
        return (
            PeerVerdict.PROBE if progress.may_probe and not progress.started else PeerVerdict.LEFT
        )

    def _reads(self, progress: ResponseProgress) -> bool:
        return not progress.endless or progress.acknowledged > self.acknowledged


# Watching -----------------------------------------------------------------------------------------


class PeerWatch:
    """The client of one connection, while its transport reads nothing.

    Args:
        buffer: The connection's.
        loop: The event loop.
        transport: Closed when the client has left.
        progress: How far the open response is.
    """

    __slots__ = (
        *("_alarm", "_asked_at", "_buffer", "_half_closed", "_hangup", "_loop", "_progress"),
        *("_started", "_started_before", "_transport", "has_ended"),
    )

    def __init__(
        self,
        buffer: WriteBuffer,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        progress: Callable[[], ResponseProgress],
    ) -> None:
        self._buffer = buffer
        self._loop = loop
        self._transport = transport
        self._progress = progress
        self._asked_at = 0.0
        self._half_closed: HalfClosed | None = None
        self._started = self._started_before = False
        self._hangup: _HangupWatch | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self.has_ended = False
        """The client has ended its side, and all that it sent was read: nothing more will come."""

    def paused(self, asked_at: float) -> None:
        """From now on nothing more is read until the open response is complete.

        Args:
            asked_at: When its request was complete; the loop's time.
        """
        self._asked_at = asked_at
        self._watch(half=True)

    def ended(self, asked_at: float) -> None:
        """The client has ended its side while a response is open, and all that it sent was read.

        Args:
            asked_at: When its request was complete; the loop's time.
        """
        self.has_ended = True
        self._half_close(asked_at)

    def over(self) -> None:
        """The open response is complete, or the connection is lost."""
        self._stop_alarm()
        self._stop_watching()
        # If the end was seen before what is in front of it was read, the transport tells it again
        # when it gets there.
        self._half_closed = None

    def _half_close(self, asked_at: float) -> None:
        progress = self._progress()
        self._started = self._started_before = progress.started
        self._half_closed = HalfClosed.seen(self._loop.time(), asked_at, progress)
        self._look()

    @property
    def _begun_since(self) -> bool:
        """The response has begun, and had not when the client ended its side."""
        return self._started and not self._started_before

    def _look(self) -> None:
        self._stop_alarm()
        assert self._half_closed is not None
        now, progress = self._loop.time(), self._progress()
        if progress.started and not self._started:
            self._started = True
            self._half_closed = replace(self._half_closed, since=now)
        elif self._begun_since and not self._buffer.unsent_bytes:
            # It has acknowledged the head, and a reset would have been told by now.
            self._half_closed = replace(self._half_closed, probed=True)
        verdict = self._half_closed.verdict(now, progress)
        if verdict is PeerVerdict.LEFT:
            self._transport.close()
            return
        if self._hangup is None:
            self._watch(half=False)
        if verdict is PeerVerdict.PROBE:
            self._transport.write(_PROBE)
            self._half_closed = replace(self._half_closed, probed=True)
        elif verdict is PeerVerdict.UNKNOWN:
            self._alarm = self._loop.call_later(limits.HALF_CLOSE_GRACE / 4, self._look)

    def _watch(self, *, half: bool) -> None:
        """Notice that the client goes.

        Args:
            half: Its end of its own side counts, too; False if that was seen before.
        """
        self._stop_watching()
        with suppress(OSError):  # it is gone, which the transport will say
            self._hangup = _HangupWatch(self._buffer, self._loop, self._hung_up, half=half)

    def _hung_up(self) -> None:
        self._stop_watching()
        if self._transport.is_closing():
            return
        if self._half_closed is None and not self._buffer.encrypted:
            # Or more than that, which the next watch tells at once.
            self._half_close(self._asked_at)
        else:
            self._transport.abort()

    def _stop_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _stop_watching(self) -> None:
        if self._hangup is not None:
            self._hangup.close()
            self._hangup = None


class _HangupWatch:
    """Asks the kernel to tell, once, that the client has gone."""

    __slots__ = ("_call", "_epoll", "_loop")

    def __init__(
        self,
        buffer: WriteBuffer,
        loop: asyncio.AbstractEventLoop,
        call: Callable[[], None],
        *,
        half: bool,
    ) -> None:
        self._loop = loop
        self._call = call
        # One of our own: the loop refuses to watch a descriptor that a transport has.
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        if self._epoll is not None:
            buffer.register_in(self._epoll, select.EPOLLRDHUP if half else 0)
            loop.add_reader(self._epoll.fileno(), self._tell)

    def _tell(self) -> None:
        self.close()
        self._call()

    def close(self) -> None:
        epoll, self._epoll = self._epoll, None
        if epoll is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.remove_reader(epoll.fileno())
            epoll.close()
