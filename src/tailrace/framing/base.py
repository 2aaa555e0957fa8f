"""What every format is to the pump: items in, bytes out, and the ends it can write."""

from __future__ import annotations

from typing import Any, ClassVar

from tailrace.errors import Problem

__all__ = ["Framing"]


class Framing:
    """How one response turns items into bytes. Pure. One for each response: it may count.

    A format overrides what it has; what it lacks stays empty here.
    """

    name: ClassVar[str] = "raw"
    """The format as errors name it."""

    heartbeat: ClassVar[bytes] = b""
    """What keeps an idle connection alive; empty where the format has nothing of the kind."""

    def frame(self, item: Any) -> bytes:
        """The bytes of one item; may be empty.

        Raises:
            InvalidChunk: The format cannot carry an item of this type.
        """
        raise NotImplementedError

    def closing(self) -> bytes:
        """What follows the last item of a source that ended well."""
        return b""

    def failure(self, problem: Problem) -> bytes:
        """The typed tail of a stream that failed; empty where the format can only be cut."""
        return b""

    def farewell(self, retry: float) -> bytes | None:
        """How the format says good-bye when the server stops, or None where it cannot.

        Args:
            retry: Seconds after which the client should come back.
        """
        return None
