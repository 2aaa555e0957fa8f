"""What the bytes of a live response are made of: the interface between a stream and its readers.

How a response calls its format, in this order:

1. `headers(info)`: the response's own headers; then, for HEAD, nothing more.
2. `begin(first, now)`: the first bytes of the body; then `frame(first, now)`. This first part may
   be empty: the reader began at the tail.
3. `frame(part, now)` for each further one. It has bytes, or says what is new: that the stream is
   closed (`part.closed`), or that the reader has come to the tail. `gap(gap)` in between, if
   something was left out.
4. `end(end)` once: the last bytes.

Readers that are at the tail and whose formats are equal get one and the same result of `frame`: a
format is frozen and hashable, and all it knows of a reader is in its fields. A reader that must be
told something of its own (a cursor that it sent) has a format of its own. `frame` may be called for
a part more than once or not at all, so it must not count. `now` is when the part was read or
appended, in seconds since the epoch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from tailrace.errors import TailraceError
from tailrace.semantics import LIVE_HEADERS
from tailrace.store import Offset, Slice, StreamInfo

__all__ = ["End", "Format", "Gap", "Reason"]


@dataclass(frozen=True, slots=True)
class Gap:
    """What a reader does not get: it is no longer retained, or the reader was too slow for it.

    Args:
        start: Up to where the reader has everything; None if that is not known, for the id that it
            came with is not one of this stream.
        end: From where on it gets everything again.
    """

    start: Offset | None
    end: Offset


class Reason(Enum):
    """Why a live response ends."""

    CLOSED = "closed"
    """The stream is closed, and all of it was sent."""
    DELETED = "deleted"
    """The stream was deleted, or has expired."""
    GAP = "gap"
    """Something is no longer retained, and the format cannot say so."""
    LIFETIME = "lifetime"
    """The response has lasted for as long as it may: the client has to ask again."""
    FAREWELL = "farewell"
    """The server stops."""
    FAILED = "failed"
    """The store failed."""


@dataclass(frozen=True, slots=True)
class End:
    """The end of a live response.

    Args:
        reason: Why it ends.
        path: The stream.
        offset: Up to where the reader has everything.
        last: What the reader got last (`Reason.CLOSED`).
        gap: What the format cannot tell (`Reason.GAP`).
        error: What failed (`Reason.FAILED`). It is raised after the last bytes in any case.
        retry: Seconds after which a client may come back (`Reason.FAREWELL`); 0: at once.
    """

    reason: Reason
    path: str
    offset: Offset
    last: Slice | None = None
    gap: Gap | None = None
    error: TailraceError | None = None
    retry: float = 0.0


class Format(ABC):
    """How readers get a stream. Pure, frozen and hashable. The top of this file says when each
    method is called."""

    __slots__ = ()

    media_type: ClassVar[str] = "application/octet-stream"
    """The Content-Type, unless `headers` gives another one."""

    heartbeat: ClassVar[bytes] = b""
    """The bytes that keep an idle connection alive; empty if the format has none."""

    says_farewell: ClassVar[bool] = False
    """A response can end in order at any time, and its client knows that there is more. So it ends
    when the server stops; a response without a farewell goes on until the server cuts it."""

    def headers(self, info: StreamInfo) -> tuple[tuple[str, str], ...]:
        """The response's headers; what the application gives replaces them."""
        return (("content-type", self.media_type), *LIVE_HEADERS)

    def begin(self, first: Slice, now: float) -> bytes:
        """The first bytes of the body, before those of the first part; may be empty."""
        return b""

    @abstractmethod
    def frame(self, part: Slice, now: float) -> bytes:
        """A part's bytes; may be empty."""

    def gap(self, gap: Gap) -> bytes | None:
        """What tells of a gap; None if nothing can: the response then ends (`Reason.GAP`)."""
        return None

    def end(self, end: End) -> bytes:
        """The last bytes; may be empty.

        Raises:
            TailraceError: The response must not end in order. It is raised out of the response, so
                that the server cuts the connection and the client can tell.
        """
        if end.error is not None:
            raise end.error
        return b""
