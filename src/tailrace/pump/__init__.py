"""Batching, backpressure, deadlines, heartbeat, fairness: the only loop."""

from __future__ import annotations

from tailrace.pump.delivery import Head, Unsendable, name_of
from tailrace.pump.stream import serve
from tailrace.pump.whole import send_whole

__all__ = [
    "Head",
    "Unsendable",
    "name_of",
    "send_whole",
    "serve",
]
