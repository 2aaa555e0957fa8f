"""Streaming for FastAPI that survives production."""

from __future__ import annotations

from tailrace.errors import (
    InvalidChunk,
    InvalidEvent,
    InvalidItem,
    InvalidOption,
    SourceSpent,
    TailraceError,
)
from tailrace.framing import Event, Part
from tailrace.pump import Drained, Stats, drain, stats
from tailrace.responses import (
    CSVResponse,
    EventSourceResponse,
    JSONArrayResponse,
    JSONLinesResponse,
    MultipartMixedReplaceResponse,
    StreamingResponse,
    StreamRoute,
    negotiate,
)
from tailrace.types import StreamOptions

__version__ = "0.1.0"

__all__ = [
    "CSVResponse",
    "Drained",
    "Event",
    "EventSourceResponse",
    "InvalidChunk",
    "InvalidEvent",
    "InvalidItem",
    "InvalidOption",
    "JSONArrayResponse",
    "JSONLinesResponse",
    "MultipartMixedReplaceResponse",
    "Part",
    "SourceSpent",
    "Stats",
    "StreamOptions",
    "StreamRoute",
    "StreamingResponse",
    "TailraceError",
    "drain",
    "negotiate",
    "stats",
]
