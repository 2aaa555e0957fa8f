"""What becomes of a reader who is too slow."""

from __future__ import annotations

from enum import Enum

__all__ = ["Slow"]


class Slow(Enum):
    """What becomes of a reader for whom too much waits (`limits.ATTACH_BUFFER_BYTES`)."""

    RESUME = "resume"
    """He reads what he missed from the log, at his own pace."""
    LATEST = "latest"
    """He goes on with what comes next, and is told of the gap."""
    DISCONNECT = "disconnect"
    """He is cut off, and comes back when he likes."""
