"""A client that has ended its side of the connection: has it left, or does it wait for its answer?

`nc -N`, health probes and some libraries end their side behind the request and then read. A browser
that is closed, or a client that gives up, looks the same: both are one FIN. Only what is sent tells
them apart, for who has left answers it with a reset, and who waits acknowledges it.

So a response with an end goes on: a length was promised. One that may be without an end goes on
only for a client that ended its side right behind its request, and that has acknowledged something
since. Any other has left: a silent stream must not be kept open for nobody. Where nothing was sent
yet, something is: an interim response, which a client of HTTP/1.1 has to pass over.

Source: RFC 9112 9.6; RFC 9110 15.2; RFC 9293 3.6.
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
    PROBE = "probe"
    """Send it an interim response, once: one that has left answers with a reset."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a response is.

    Args:
        started: Its head was sent.
        endless: No length was promised.
        acknowledged: Bytes that the client has acknowledged on this connection.
        may_probe: The client knows interim responses.
    """

    started: bool
    endless: bool
    acknowledged: int
    may_probe: bool = True


@dataclass(frozen=True, slots=True)
class HalfClosed:
    """What is known of a client that has ended its side.

    Args:
        since: The loop's time, of its end or, if that is later, of the response's beginning.
        at_once: It was right behind its request.
        acknowledged: Bytes that it had acknowledged by then.
        probed: It was sent an interim response or a head, and did not answer with a reset.
    """

    since: float
    at_once: bool
    acknowledged: int
    probed: bool = False

    @classmethod
    def seen(cls, now: float, asked_at: float, progress: Progress) -> HalfClosed:
        """A client that ends its side now, and whose request was complete at `asked_at`."""
        return cls(now, now < asked_at + limits.HALF_CLOSE_GRACE, progress.acknowledged)

    def verdict(self, now: float, progress: Progress) -> Verdict:
        """Whether the client is still there."""
        if self.probed or (progress.started and self._reads(progress)):
            return Verdict.STAYS
        if self.at_once and now < self.since + limits.HALF_CLOSE_GRACE:
            return Verdict.UNKNOWN
        return Verdict.PROBE if progress.may_probe and not progress.started else Verdict.LEFT

    def _reads(self, progress: Progress) -> bool:
        return not progress.endless or progress.acknowledged > self.acknowledged
