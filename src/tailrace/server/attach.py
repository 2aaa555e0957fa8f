"""A connection handed over to its response, for writes that never wait."""

from __future__ import annotations

from collections.abc import Callable

from tailrace import limits
from tailrace.connection import Frame
from tailrace.server.outlet import Outlet

__all__ = ["AttachedOutlet"]


class AttachedOutlet:
    """What `tailrace.pump.Attached` says, on one connection.

    Args:
        outlet: The way out.
    """

    __slots__ = ("_outlet",)

    def __init__(self, outlet: Outlet) -> None:
        self._outlet: Outlet | None = outlet

    @property
    def released(self) -> bool:
        """The connection was given back."""
        return self._outlet is None

    @property
    def buffered_bytes(self) -> int:
        return 0 if self._outlet is None else self._outlet.buffered_bytes

    @property
    def closed(self) -> bool:
        return self._outlet is None or self._outlet.is_closing

    def write(self, frame: Frame) -> bool:
        outlet = self._outlet
        if outlet is None or outlet.dropped:
            return False
        if outlet.paused or not outlet.direct:
            if outlet.buffered_bytes + frame.size > limits.ATTACH_BUFFER_BYTES and outlet.paused:
                return False
            outlet.write(frame.chunk)
            return True
        return outlet.write_whole(frame.chunk)

    def on_drain(self, call: Callable[[], None]) -> Callable[[], None]:
        if self._outlet is None:
            call()
            return _nothing
        return self._outlet.on_drain(call)

    def release(self) -> None:
        self._outlet = None


def _nothing() -> None:
    """Nothing is left to be taken back."""
