"""Batching, backpressure, deadlines, heartbeat, fairness: the only loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tailrace._moved import moved
from tailrace.pump.deadlines import Deadlines, Due, StallClock
from tailrace.pump.file_body import FileBody, send_file
from tailrace.pump.sending import Head, Sending, name_of, send_whole
from tailrace.pump.stream import serve

__all__ = [
    "Deadlines",
    "Due",
    "FileBody",
    "Head",
    "Sending",
    "StallClock",
    "name_of",
    "send_file",
    "send_whole",
    "serve",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """What stood here before 0.2."""
        if name in {"CONNECTION", "Frame", "attach_offer"}:
            return moved(__name__, name, "tailrace.connection")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
