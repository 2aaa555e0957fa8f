"""What every format is for a response: items in, bytes out, and how the bytes can end."""

from __future__ import annotations

from enum import Enum
from typing import Any, ClassVar

from tailrace import limits
from tailrace.errors import InvalidOption, Problem

__all__ = ["Carries", "Framing", "check_flag"]


class Carries(Enum):
    """What a format does with an item; a declared type is applied accordingly."""

    CHUNKS = "chunks"
    """Bytes and text that are sent as they are: there are no fields that a type could leave out."""
    VALUES = "values"
    """Objects of Python."""
    JSON = "json"
    """The item's JSON."""
    EVENTS = "events"
    """The item's JSON, or an event that has it as its data."""


class Framing:
    """How one response turns items into bytes. Pure. Each response has one of its own, with state.

    A format overrides what it has; what it does not have stays empty.
    """

    name: ClassVar[str] = "raw"
    """The format as errors name it."""

    heartbeat: bytes = b""
    """What keeps an idle connection alive; empty if the format has nothing for it."""

    start_grace: ClassVar[float] = limits.START_GRACE
    """Seconds that the status line waits for the first item, unless the options name others."""

    carries: ClassVar[Carries] = Carries.VALUES

    dicts_are_events: ClassVar[bool] = False
    """A dict is an event by its keys, not the data of one."""

    def frame(self, item: Any) -> bytes:
        """The bytes of one item; may be empty.

        Args:
            item: As the source gave it, or as its declared type made it.

        Raises:
            InvalidChunk: The format cannot carry an item of this type.
        """
        raise NotImplementedError

    def frame_json(self, text: bytes) -> bytes:
        """The bytes of one item that was written as JSON before; for formats that carry JSON.

        Args:
            text: One line of JSON in UTF-8.
        """
        raise NotImplementedError

    def beat(self) -> bytes:
        """The next heartbeat, of a format that has them."""
        return self.heartbeat

    def closing(self) -> bytes:
        """What follows the last item of a source that ended well."""
        return b""

    def failure(self, problem: Problem) -> bytes:
        """The typed tail of a stream that failed; empty where the format can only be cut.

        Args:
            problem: What the client may know of it.
        """
        return b""

    def farewell(self, retry: float) -> bytes | None:
        """What the format sends when the server stops; None if it has nothing for it.

        Args:
            retry: Seconds after which the client should come back.
        """
        return None


def check_flag(name: str, value: Any) -> None:
    """Refuse a value that is neither True nor False: a text, say, is a mistake.

    Raises:
        InvalidOption: It is neither.
    """
    if type(value) is not bool:
        raise InvalidOption(name, value, "True or False")
