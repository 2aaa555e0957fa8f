"""What becomes of a reader that is too slow."""

from __future__ import annotations

from enum import Enum

__all__ = ["Slow"]


class Slow(Enum):
    """What becomes of a reader for which too much waits (`limits.ATTACH_BUFFER_BYTES`)."""

    RESUME = "resume"
    """It reads what it missed from the log, at its own pace."""
    LATEST = "latest"
    """It goes on with what comes next, and is told of the gap."""
    DISCONNECT = "disconnect"
    """It is cut off, and may come back."""
