"""One message to thousands of readers: one read, one framing, one write for each of them."""

from __future__ import annotations

from tailrace.live.follower import Follower
from tailrace.live.format import End, Format, Gap, Piece, Reason
from tailrace.live.hub import Hub
from tailrace.live.live import LiveResponse
from tailrace.live.slow import Slow

__all__ = [
    "End",
    "Follower",
    "Format",
    "Gap",
    "Hub",
    "LiveResponse",
    "Piece",
    "Reason",
    "Slow",
]
