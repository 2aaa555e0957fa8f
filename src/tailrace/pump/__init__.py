"""Batching, backpressure, deadlines, heartbeat, fairness: the only loop."""

from __future__ import annotations

from tailrace.pump.deadlines import Deadlines, Due, StallClock
from tailrace.pump.sending import Head, Sending, name_of, send_whole
from tailrace.pump.stream import serve

__all__ = [
    "Deadlines",
    "Due",
    "Head",
    "Sending",
    "StallClock",
    "name_of",
    "send_whole",
    "serve",
]
