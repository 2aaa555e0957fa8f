"""When a download is tried again, and when it is given up. Pure: randomness is handed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tailrace import limits

__all__ = ["Patience", "RetryPolicy"]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how soon.

    Args:
        retries: New attempts in a row that may bring nothing, 0 or more.
        base: Seconds before the first of them; doubled for each one after it.
        cap: Seconds before any of them, at most.
        longest: Seconds that a server may ask to wait with Retry-After.
    """

    retries: int = limits.GET_RETRIES
    base: float = limits.RETRY_BASE
    cap: float = limits.RETRY_CAP
    longest: float = limits.MAX_RETRY_AFTER

    def delay(self, failures: int, asked: float | None, random: float) -> float | None:
        """Seconds until the next attempt; None gives up.

        Half of the time is drawn, so that clients that failed together do not come back together.
        What the server asks for is never undercut.

        Args:
            failures: Failures in a row, with this one: 1 or more.
            asked: The server's Retry-After in seconds, if it sent one.
            random: Drawn evenly from 0 to 1.
        """
        if failures > self.retries or (asked is not None and asked > self.longest):
            return None
        # The exponent is bounded: 2.0 ** 1100 would not fit a float.
        backoff = min(self.cap, self.base * 2.0 ** min(failures - 1, 64)) * (1 + random) / 2
        return max(backoff, asked or 0.0)


class Patience:
    """Counts failures in a row.

    Progress is a new byte *beyond the most that any attempt has had*. A server that cuts every
    connection is borne with as long as the file grows; one whose file changes under each attempt,
    or that cannot resume and always cuts at the same place, is given up.

    Args:
        policy: The numbers.
        random: Gives a number from 0 to 1.
    """

    def __init__(self, policy: RetryPolicy, random: Callable[[], float]) -> None:
        self._policy = policy
        self._random = random
        self._failures = 0
        self._most = 0

    def fail(self, have: int, asked: float | None = None) -> float | None:
        """Count a failure.

        Args:
            have: Bytes of the file that are there now.
            asked: The server's Retry-After in seconds, if it sent one.

        Returns:
            Seconds to wait; None gives up.
        """
        if have > self._most:
            self._most = have
            self._failures = 0
        self._failures += 1
        return self._policy.delay(self._failures, asked, self._random())
