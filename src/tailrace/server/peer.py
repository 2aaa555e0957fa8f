"""Notices that the client goes while nothing is read from it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from tailrace import limits
from tailrace.server.halfclose import HalfClosed, Progress, Verdict
from tailrace.server.hangup import HangupWatch
from tailrace.server.write_buffer import WriteBuffer

__all__ = ["PeerWatch"]


_PROBE = b"HTTP/1.1 100 Continue\r\n\r\n"
"""The one interim response that every client knows."""


class PeerWatch:
    """The client of one connection, while its transport reads nothing.

    Args:
        buffer: The way out.
        loop: The event loop.
        transport: Closed when the client has left.
        response: Whether the open response has started, whether it may be without an end, and
            whether its client knows interim responses.
    """

    __slots__ = (
        *("_alarm", "_asked_at", "_half_closed", "_hangup", "_loop", "_buffer", "_response"),
        *("_started", "_started_before", "_transport", "has_ended"),
    )

    def __init__(
        self,
        buffer: WriteBuffer,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        response: Callable[[], tuple[bool, bool, bool]],
    ) -> None:
        self._buffer = buffer
        self._loop = loop
        self._transport = transport
        self._response = response
        self._asked_at = 0.0
        self._half_closed: HalfClosed | None = None
        self._started = self._started_before = False
        self._hangup: HangupWatch | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self.has_ended = False
        """The client has ended its side, and all that it sent was read: nothing more will come."""

    def paused(self, asked_at: float) -> None:
        """Nothing more is read before the open response is complete."""
        self._asked_at = asked_at
        self._watch(half=True)

    def ended(self, asked_at: float) -> None:
        """The client has ended its side while a response is open, and all that it sent was read.

        Args:
            asked_at: When its request was complete; the loop's time.
        """
        self.has_ended = True
        self._half_close(asked_at)

    def _half_close(self, asked_at: float) -> None:
        progress = self._progress
        self._started = self._started_before = progress.started
        self._half_closed = HalfClosed.seen(self._loop.time(), asked_at, progress)
        self._look()

    def over(self) -> None:
        """The open response is complete, or the connection is lost."""
        self._stop_alarm()
        self._stop_watching()
        # Seen past what is not read yet, the end is told again by the transport when it gets there.
        self._half_closed = None

    @property
    def _progress(self) -> Progress:
        started, endless, may_probe = self._response()
        return Progress(started, endless, self._buffer.progress, may_probe)

    @property
    def _begun_since(self) -> bool:
        """The response has begun, and had not when the client ended its side."""
        return self._started and not self._started_before

    def _look(self) -> None:
        self._stop_alarm()
        assert self._half_closed is not None
        now, progress = self._loop.time(), self._progress
        if progress.started and not self._started:
            self._started = True
            self._half_closed = replace(self._half_closed, since=now)
        elif self._begun_since and not self._buffer.unsent_bytes:
            # It has acknowledged the head, and a reset would have been told by now.
            self._half_closed = replace(self._half_closed, probed=True)
        verdict = self._half_closed.verdict(now, progress)
        if verdict is Verdict.LEFT:
            self._transport.close()
            return
        if self._hangup is None:
            self._watch(half=False)
        if verdict is Verdict.PROBE:
            self._transport.write(_PROBE)
            self._half_closed = replace(self._half_closed, probed=True)
        elif verdict is Verdict.UNKNOWN:
            self._alarm = self._loop.call_later(limits.HALF_CLOSE_GRACE / 4, self._look)

    def _watch(self, *, half: bool) -> None:
        self._stop_watching()
        with suppress(OSError):  # it is gone, which the transport will say
            self._hangup = self._buffer.watch_hangup(self._hung_up, half=half)

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
