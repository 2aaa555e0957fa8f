"""The time of day as a store under test sees it."""

from __future__ import annotations

__all__ = ["StoreClock"]

_START_MS = 1_800_000_000_000
"""In January 2027: any store's own clock would be noticed."""


class StoreClock:
    """Milliseconds since the epoch, which stand still until the test moves them.

    It is called as `clock()`. Another time than the event loop's (`tailrace.testing.Clock`): what
    a store keeps of it lasts longer than a loop does.

    Args:
        milliseconds: Where it starts.
    """

    def __init__(self, milliseconds: int = _START_MS) -> None:
        self.milliseconds = milliseconds

    def __call__(self) -> int:
        return self.milliseconds

    def advance(self, seconds: float) -> None:
        """Move it; seconds may be negative, as when a machine's clock is set back."""
        self.milliseconds += round(seconds * 1000)
