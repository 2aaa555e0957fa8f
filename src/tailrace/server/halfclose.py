"""A client that has ended its side of the connection: has it left, or does it wait for its answer?

`nc -N`, health probes and some libraries end their side behind the request and then read. A browser
that is closed, or a client that gives up, looks the same: both are one FIN. Only what is sent tells
them apart, for who has left answers it with a reset, and who waits acknowledges it.

So a response with an end goes on: a length was promised, or nothing was sent yet. One that may be
without an end goes on only for a client that ended its side right behind its request, and that has
acknowledged something since. Any other has left: a silent stream must not be kept open for nobody.

Source: RFC 9112 9.6; RFC 9293 3.6.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tailrace import limits

__all__ = ["HalfClosed", "Progress", "Verdict"]


class Verdict(Enum):
    """What is done about a client that has ended its side."""

    STAYS = "stays"
    """It gets the rest of its answer."""
    LEFT = "left"
    UNKNOWN = "unknown"
    """Look again in a moment."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a response is.

    Args:
        started: Its head was sent.
        endless: No length was promised.
        acknowledged: Bytes that the client has acknowledged on this connection.
    """

    started: bool
    endless: bool
    acknowledged: int


@dataclass(frozen=True, slots=True)
class HalfClosed:
    """What is known of a client that has ended its side.

    Args:
        since: The loop's time, of its end or, if that is later, of the response's beginning.
        at_once: It was right behind its request.
        acknowledged: Bytes that it had acknowledged by then.
    """

    since: float
    at_once: bool
    acknowledged: int

    @classmethod
    def seen(cls, now: float, asked_at: float, progress: Progress) -> HalfClosed:
        """A client that ends its side now, and whose request was complete at `asked_at`."""
        at_once = not progress.started or now < asked_at + limits.HALF_CLOSE_GRACE
        return cls(now, at_once, progress.acknowledged)

    def verdict(self, now: float, progress: Progress) -> Verdict:
        """Whether the client is still there."""
        if not progress.started:
            return Verdict.UNKNOWN
        if not progress.endless or progress.acknowledged > self.acknowledged:
            return Verdict.STAYS
        if self.at_once and now < self.since + limits.HALF_CLOSE_GRACE:
            return Verdict.UNKNOWN
        return Verdict.LEFT
