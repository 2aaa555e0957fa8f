"""A client that takes nothing is cut off, while the server itself sends to it."""

from __future__ import annotations

import asyncio
from types import TracebackType

from tailrace.connection import log
from tailrace.server.write_buffer import WriteBuffer

__all__ = ["StallWatch"]


class StallWatch:
    """A block in which a client must take something at least every `timeout` seconds.

    Args:
        buffer: The connection; aborted when the time is up.
        loop: The event loop.
        timeout: Seconds; None for ever.
        name: What log lines call the response.
    """

    __slots__ = ("_alarm", "_buffer", "_loop", "_moved", "_name", "_progress", "_timeout")

    def __init__(
        self, buffer: WriteBuffer, loop: asyncio.AbstractEventLoop, timeout: float | None, name: str
    ) -> None:
        self._buffer = buffer
        self._loop = loop
        self._timeout = timeout
        self._name = name
        self._alarm: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        if self._timeout is not None:
            self._moved = self._loop.time()
            self._progress = self._buffer.progress
            self._look_after(self._timeout)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._alarm is not None:
            self._alarm.cancel()

    def _look_after(self, timeout: float) -> None:
        # Progress is seen only by looking, so look four times in the time it is given.
        self._alarm = self._loop.call_later(timeout / 4, self._look, timeout)

    def _look(self, timeout: float) -> None:
        progress, now = self._buffer.progress, self._loop.time()
        # Nothing waits for the client: it is the disk that is slow.
        if progress != self._progress or not self._buffer.unsent_bytes:
            self._progress, self._moved = progress, now
        if now >= self._moved + timeout:
            log.info("%s: client cut off: stalled", self._name)
            self._buffer.abort("stalled")
        else:
            self._look_after(timeout)
