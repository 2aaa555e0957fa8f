"""The interface of every format: it turns items into bytes, and writes how the body ends."""

from __future__ import annotations

from enum import Enum
from typing import Any, ClassVar

from tailrace import limits
from tailrace.errors import Problem

__all__ = ["Carries", "Framing"]


class Carries(Enum):
    """What a format makes of an item. It decides how the declared type of the items is applied."""

    CHUNKS = "chunks"
    """Bytes and text that are sent as they are; no type is applied to them."""
    VALUES = "values"
    """The cells of a row: the format takes Python objects and writes them itself."""
    JSON = "json"
    """The item as JSON."""
    EVENTS = "events"
    """An event: the item itself if it is one, otherwise an event whose data is the item as JSON."""


class Framing:
    """How one response turns its items into bytes, without I/O.

    Each response has its own object, because a format may keep state: CSV writes its header once.
    A format overrides what it supports; the defaults write nothing.
    """

    name: ClassVar[str] = "raw"
    """The name of the format in errors."""

    heartbeat: bytes = b""
    """Bytes that are sent after a silence, to keep the connection open; empty if there are none."""

    start_grace: ClassVar[float] = limits.START_GRACE
    """Seconds that the status line waits for the first item, if the options do not set it."""

    carries: ClassVar[Carries] = Carries.VALUES

    dicts_are_events: ClassVar[bool] = False
    """True: a dict is a whole event, its keys are the fields. False: it is the data of an event."""

    def frame(self, item: Any) -> bytes:
        """The bytes of one item; they may be empty.

        Args:
            item: As the source gave it, or converted to its declared type.

        Raises:
            InvalidChunk: The format cannot carry this item.
            InvalidEvent: The item is an event that cannot be written.
        """
        raise NotImplementedError

    def frame_json(self, text: bytes) -> bytes:
        """The bytes of one item that is JSON already; only for formats that carry JSON or events.

        Args:
            text: One line of JSON in UTF-8.
        """
        raise NotImplementedError

    def beat(self) -> bytes:
        """The bytes of the next heartbeat; empty if the format has none."""
        return self.heartbeat

    def closing(self) -> bytes:
        """The bytes after the last item, if the source ended without an error."""
        return b""

    def failure(self, problem: Problem) -> bytes:
        """The last bytes of a stream that failed, which tell the client of the error.

        They are empty where the format has no way to say it; then the body just stops.

        Args:
            problem: What the client may know about the error.
        """
        return b""

    def farewell(self, retry: float) -> bytes | None:
        """The last bytes of a stream that the server ends because it stops; None if there are none.

        Args:
            retry: Seconds after which the client should connect again.
        """
        return None
