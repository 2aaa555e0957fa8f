"""One message to thousands of readers: one read, one framing, one write for each of them."""

from __future__ import annotations

from tailrace.fanout.follower import Follower
from tailrace.fanout.format import End, Format, Gap, Piece, Reason
from tailrace.fanout.formats import Events, Lines, Raw
from tailrace.fanout.hub import Hub
from tailrace.fanout.live import LiveResponse
from tailrace.fanout.messages import RESERVED, control_of
from tailrace.fanout.slow import Slow

__all__ = [
    "RESERVED",
    "End",
    "Events",
    "Follower",
    "Format",
    "Gap",
    "Hub",
    "Lines",
    "LiveResponse",
    "Piece",
    "Raw",
    "Reason",
    "Slow",
    "control_of",
]
