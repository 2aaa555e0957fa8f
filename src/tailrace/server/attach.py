"""A connection handed over to its response, for writes that never wait."""

from __future__ import annotations

from collections.abc import Callable

from tailrace import limits
from tailrace.connection import Frame
from tailrace.server.write_buffer import WriteBuffer

__all__ = ["AttachedConnection"]


class AttachedConnection:
    """What `tailrace.pump.Attached` says, on one connection.

    Args:
        buffer: The way out.
    """

    __slots__ = ("_buffer",)

    def __init__(self, buffer: WriteBuffer) -> None:
        self._buffer: WriteBuffer | None = buffer

    @property
    def released(self) -> bool:
        """The connection was given back."""
        return self._buffer is None

    @property
    def buffered_bytes(self) -> int:
        return 0 if self._buffer is None else self._buffer.buffered_bytes

    @property
    def closed(self) -> bool:
        return self._buffer is None or self._buffer.is_closing

    def write(self, frame: Frame) -> bool:
        buffer = self._buffer
        if buffer is None or buffer.dropped:
            return False
        if buffer.paused or not buffer.direct:
            if buffer.buffered_bytes + frame.size > limits.ATTACH_BUFFER_BYTES and buffer.paused:
                return False
            buffer.write(frame.chunk)
            return True
        return buffer.write_whole(frame.chunk)

    def on_drain(self, call: Callable[[], None]) -> Callable[[], None]:
        if self._buffer is None:
            call()
            return _nothing
        return self._buffer.on_drain(call)

    def release(self) -> None:
        self._buffer = None


def _nothing() -> None:
    """Nothing is left to be taken back."""
