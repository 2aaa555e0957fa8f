"""One message to thousands of readers: one read, one framing, one write for each of them."""

from __future__ import annotations

from tailrace.live.cursor import Slow
from tailrace.live.format import End, Format, Gap, Reason
from tailrace.live.hub import Hub
from tailrace.live.response import LiveResponse
from tailrace.live.tail import Entry

__all__ = [
    "End",
    "Entry",
    "Format",
    "Gap",
    "Hub",
    "LiveResponse",
    "Reason",
    "Slow",
]
