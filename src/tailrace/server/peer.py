"""Whether the client is still there, while nothing is read from it.

A transport whose reading is paused does not notice that the client ends its side. One that has
noticed it reads no more, and does not notice a reset that follows. Linux reports both without a
read, by `epoll`. Elsewhere only the next write shows that the client is gone.

**A client that has ended its side** may have left, or may wait for its answer. `nc -N`, health
probes and some libraries end their side right after the request and then read. A browser that is
closed, or a client that gives up, looks the same: each sends one FIN. Only a write tells them
apart: a client that has left answers with a reset, one that waits acknowledges it.

So a response with a content-length goes on. One without goes on only if the client ended its side
right after its request, and has acknowledged bytes since. Any other client is taken to have left: a
silent stream must not stay open for nobody. If the response has not started, an interim response is
sent, which a client of HTTP/1.1 has to skip.

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
"""The interim response that every client of HTTP/1.1 knows."""


# Decided without waiting --------------------------------------------------------------------------


class PeerVerdict(Enum):
    """What to do about a client that has ended its side."""

    STAYS = "stays"
    """Send it the rest of its answer."""
    LEFT = "left"
    """Close the connection."""
    UNKNOWN = "unknown"
    """Ask again in a moment."""
    PROBE = "probe"
    """Send it one interim response: a client that has left answers with a reset."""


@dataclass(frozen=True, slots=True)
class ResponseProgress:
    """How far a response is.

    Args:
        started: Its head was sent.
        endless: It has no content-length, so it may never end.
        acknowledged: Bytes that the client has acknowledged on this connection.
        may_probe: The client knows interim responses (HTTP/1.1).
    """

    started: bool
    endless: bool
    acknowledged: int
    may_probe: bool = True


@dataclass(frozen=True, slots=True)
class HalfClosed:
    """What is known of a client that has ended its side.

    Args:
        since: The loop's time when it ended its side or, if later, when the response began.
        at_once: It ended its side within `limits.HALF_CLOSE_GRACE` seconds after its request.
        acknowledged: Bytes that it had acknowledged when it ended its side.
        probed: It was sent an interim response, or has acknowledged the head.
    """

    since: float
    at_once: bool
    acknowledged: int
    probed: bool = False

    @classmethod
    def seen(cls, now: float, asked_at: float, progress: ResponseProgress) -> HalfClosed:
        """The record of a client that ends its side now; its request was complete at `asked_at`."""
        return cls(now, now < asked_at + limits.HALF_CLOSE_GRACE, progress.acknowledged)

    def verdict(self, now: float, progress: ResponseProgress) -> PeerVerdict:
        """What to do about the client now."""
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
    """Watches the client of one connection while its transport reads nothing.

    Args:
        buffer: The connection's.
        loop: The event loop.
        transport: The connection's; closed or aborted when the client has left.
        progress: Says how far the open response is.
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
        """Start to watch: nothing more is read until the open response is complete.

        Args:
            asked_at: The loop's time when the request was complete.
        """
        self._asked_at = asked_at
        self._watch(half=True)

    def ended(self, asked_at: float) -> None:
        """Note that the client ended its side while a response is open, and all it sent was read.

        Args:
            asked_at: The loop's time when the request was complete.
        """
        self.has_ended = True
        self._half_close(asked_at)

    def over(self) -> None:
        """Stop watching: the open response is complete, or the connection is lost."""
        self._stop_alarm()
        self._stop_watching()
        # If the client ended its side before all was read, the transport reports it again then.
        self._half_closed = None

    def _half_close(self, asked_at: float) -> None:
        progress = self._progress()
        self._started = self._started_before = progress.started
        self._half_closed = HalfClosed.seen(self._loop.time(), asked_at, progress)
        self._look()

    @property
    def _begun_since(self) -> bool:
        """Whether the response began after the client had ended its side."""
        return self._started and not self._started_before

    def _look(self) -> None:
        self._stop_alarm()
        assert self._half_closed is not None
        now, progress = self._loop.time(), self._progress()
        if progress.started and not self._started:
            self._started = True
            self._half_closed = replace(self._half_closed, since=now)
        elif self._begun_since and not self._buffer.unsent_bytes:
            # The client has acknowledged the head, and a reset would have been reported by now.
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
        """Have `_hung_up` called when the client leaves.

        Args:
            half: Also when the client ends only its side; False if that was noticed before.
        """
        self._stop_watching()
        with suppress(OSError):  # the connection is gone: the transport will report it
            self._hangup = _HangupWatch(self._buffer, self._loop, self._hung_up, half=half)

    def _hung_up(self) -> None:
        self._stop_watching()
        if self._transport.is_closing():
            return
        if self._half_closed is None and not self._buffer.encrypted:
            # If the client has also reset the connection, the next watch reports that at once.
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
    """Calls `call` once, when the kernel reports that the client has gone; only on Linux."""

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
        # An epoll of our own: the loop refuses to watch a descriptor that belongs to a transport.
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
