"""When a client that is told to come back is answered again. Pure.

A client that comes back while the old server still drains is refused, or gets a proxy's 502. Then a
browser's `EventSource` never tries again: Chromium after any status but 200, Firefox after a
refused connection as well. So the farewell looks past what may still hold the old server.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from random import uniform

from tailrace import limits

__all__ = ["Farewell", "held_for", "retry_range"]


@dataclass(frozen=True, slots=True)
class Farewell:
    """What an open stream is told when the server stops.

    Args:
        left: Seconds until what is still open is cut.
        retry: Seconds, `(least, most)`, after which its client may come back.
    """

    left: float
    retry: tuple[float, float] = limits.FAREWELL_RETRY

    def draw_retry(self) -> float:
        """Seconds for one client: drawn, so that not all come back in the same instant."""
        return uniform(*self.retry)


def held_for(left: float, lingering: Iterable[float], others: int) -> float:
    """Seconds that a server which stops may still be held.

    Args:
        left: Seconds until it cuts what is open; infinite if it never does.
        lingering: Seconds that each open stream may take to end; infinite for one that is not told.
        others: Open responses that are no streams of ours.
    """
    if left == math.inf:
        left = limits.LONGEST_STOP
    return left if others > 0 else min(left, max(lingering, default=0.0))


def retry_range(held: float, *, waits_in_line: bool) -> tuple[float, float]:
    """Between which seconds a client may come back.

    Args:
        held: Seconds until the server has ended.
        waits_in_line: The listening socket outlives the server, and its successor answers.
    """
    if waits_in_line:
        return limits.FAREWELL_RETRY_IN_LINE
    least, most = limits.FAREWELL_RETRY
    return held + least, held + most
