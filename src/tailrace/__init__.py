"""Streaming for FastAPI that survives production."""

from __future__ import annotations

from tailrace.errors import (
    ArchiveTooLarge,
    DownloadFailed,
    FileChanged,
    FileUnavailable,
    InvalidChunk,
    InvalidEvent,
    InvalidItem,
    InvalidOption,
    PathRefused,
    SourceSpent,
    TailraceError,
    TransferFailed,
    WrongLength,
)
from tailrace.files import Files
from tailrace.framing import Event, Part
from tailrace.pump import Drained, Stats, drain, stats
from tailrace.responses import (
    CSVResponse,
    EventSourceResponse,
    FileResponse,
    JSONArrayResponse,
    JSONLinesResponse,
    MultipartMixedReplaceResponse,
    StreamingResponse,
    StreamRoute,
    negotiate,
)
from tailrace.source import RangeSource
from tailrace.types import StreamOptions

__version__ = "0.1.0"

__all__ = [
    "ArchiveTooLarge",
    "CSVResponse",
    "DownloadFailed",
    "Drained",
    "Event",
    "EventSourceResponse",
    "FileChanged",
    "FileResponse",
    "FileUnavailable",
    "Files",
    "InvalidChunk",
    "InvalidEvent",
    "InvalidItem",
    "InvalidOption",
    "JSONArrayResponse",
    "JSONLinesResponse",
    "MultipartMixedReplaceResponse",
    "Part",
    "PathRefused",
    "RangeSource",
    "SourceSpent",
    "Stats",
    "StreamOptions",
    "StreamRoute",
    "StreamingResponse",
    "TailraceError",
    "TransferFailed",
    "WrongLength",
    "drain",
    "negotiate",
    "stats",
]
