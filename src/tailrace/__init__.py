"""Streaming for FastAPI that survives production."""

from __future__ import annotations

from tailrace.connection import Drained, Stats, drain, shutdown_event, stats
from tailrace.errors import (
    ArchiveTooLarge,
    FileChanged,
    FileUnavailable,
    InvalidChunk,
    InvalidEvent,
    InvalidItem,
    InvalidOption,
    OffsetGone,
    PathRefused,
    RunEnded,
    SourceSpent,
    StoreUnavailable,
    StreamClosed,
    StreamError,
    StreamNotFound,
    TailraceError,
    TransferFailed,
    WrongLength,
)
from tailrace.files import Files
from tailrace.framing import Event, Part
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
from tailrace.store import Producer, Retention
from tailrace.streams import Channel, Grace, Message, Progress, Run, Streams, SyncStreams
from tailrace.types import StreamOptions

__version__ = "0.1.0"

__all__ = [
    "ArchiveTooLarge",
    "CSVResponse",
    "Channel",
    "Drained",
    "Event",
    "EventSourceResponse",
    "FileChanged",
    "FileResponse",
    "FileUnavailable",
    "Files",
    "Grace",
    "InvalidChunk",
    "InvalidEvent",
    "InvalidItem",
    "InvalidOption",
    "JSONArrayResponse",
    "JSONLinesResponse",
    "Message",
    "MultipartMixedReplaceResponse",
    "OffsetGone",
    "Part",
    "PathRefused",
    "Producer",
    "Progress",
    "RangeSource",
    "Retention",
    "Run",
    "RunEnded",
    "SourceSpent",
    "Stats",
    "StoreUnavailable",
    "StreamClosed",
    "StreamError",
    "StreamNotFound",
    "StreamOptions",
    "StreamRoute",
    "StreamingResponse",
    "Streams",
    "SyncStreams",
    "TailraceError",
    "TransferFailed",
    "WrongLength",
    "drain",
    "negotiate",
    "shutdown_event",
    "stats",
]
